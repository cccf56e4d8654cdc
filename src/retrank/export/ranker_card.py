"""What the model card says of the second stage: what it predicts, how good it is, and how far to trust its numbers."""

from collections.abc import Mapping
from typing import Any

from retrank.contract.ranker_spec import HeadSpec
from retrank.export.evidence import METRICS
from retrank.export.markdown import bullets, table
from retrank.export.ranker import TrainedRanker

_JUDGED = ("task", "rate", "calibration error (before the curve)", "AUC", "AUC in a request")
_RIVALS = ("retriever", "blend")
_ABOUT = (
    "The sections above are about the retriever alone; with this stage the bundle answers in the order of the ranker."
)


def ranker_section(ranker: TrainedRanker) -> str:
    """Return the section; what was not recorded is said to be so."""
    spec, report = ranker.spec, ranker.report
    facts = {
        "run": ranker.run_id,
        "candidates": ", ".join(f"{source} {limit}" for source, limit in spec.limits.items()),
        "test metrics": ", ".join(
            f"{name.upper()} {ranker.values[name]:.4f}" for name in METRICS if name in ranker.values
        )
        or "not recorded",
        **{f"against the {rival}": _gap(report.get(f"against_{rival}")) for rival in _RIVALS},
        "moments of requests": _gap((report.get("context") or {}).get("lift")),
    }
    tasks = [_task(head, ranker) for head in spec.heads]
    told = table(["task", "kind", "given", "weight", "what counts"], tasks)
    parts = [_ABOUT, bullets(facts), told, _trust(report)]
    return "\n\n".join(part for part in parts if part)


def doubts(run_id: str, report: Mapping[str, Any]) -> list[str]:
    """Say of whom a ranker is clearly behind: a bundle then answers better without it.

    Args:
        run_id: of the ranker.
        report: `ranking.json` of its run.
    """
    found = [(rival, report.get(f"against_{rival}")) for rival in _RIVALS]
    return [
        f"WARNING: ranker {run_id} is behind its {rival}: {_gap(gap)}; export without ranker=, or train it longer"
        for rival, gap in found
        if gap and gap["high"] < 0
    ]


def _task(head: HeadSpec, ranker: TrainedRanker) -> list[str]:
    counted = ranker.actions.get(head.name)
    return [
        head.name,
        head.kind,
        head.given or "",
        f"{head.weight:g}",
        ", ".join(counted) if counted else "every event",
    ]


def _gap(found: Mapping[str, float] | None) -> str:
    if not found:
        return "not recorded"
    return f"NDCG@10 {found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f}, 95 % interval)"


def _trust(report: Mapping[str, Any]) -> str:
    heads, values = report.get("heads") or {}, report.get("values") or {}
    if not heads and not values:
        return "How far its probabilities can be trusted was not recorded."
    rows = [
        [
            name,
            f"{one['rate']:.4f}",
            f"{one['ece']:.4f} ({one['raw_ece']:.4f})",
            f"{one['auc']:.4f}",
            f"{one['grouped_auc']:.4f}",
        ]
        for name, one in heads.items()
    ]
    judged = [table(_JUDGED, rows)] if rows else []
    amounts = [
        f"- {name}: {one['count']:,} amounts, mean {one['mean']:.2f}, expected {one['expected']:.2f}; "
        f"error {one['error']:.1%} of the mean, calibration error {one['calibration_error']:.1%}, "
        f"rank correlation {one['correlation']:.3f}"
        for name, one in values.items()
    ]
    return "\n\n".join([*judged, *(["\n".join(amounts)] if amounts else [])])
