"""The model card of a bundle, as Markdown: what it is for, how good it is, and where it is not to be trusted.

Layout: Mitchell et al. 2019 (arXiv 1810.03993). Every figure is read from the run; nothing is written that changes from
one export to the next (time, latency), so that equal runs give equal cards.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from retrank.contract.actions import UNNAMED, Actions
from retrank.contract.manifest import DataFacts
from retrank.export.evidence import METRICS, Evidence, weakest
from retrank.export.markdown import bullets, table
from retrank.export.parity import Parity
from retrank.export.ranker import TrainedRanker
from retrank.export.ranker_card import ranker_section
from retrank.export.recall import Measured
from retrank.export.sources import TrainedModel

_SETTINGS = ("split", "model", "loss", "optim", "batches", "trainer", "warm_start", "seed")
_SAID_BY_CODE = {"_partial_", "progress"}
_PURPOSE = """\
Order the items of one catalogue by how likely a user is to act on them next, from the user's history, for slates that
people look at. Not meant for decisions about people (credit, prices, access), not for another catalogue, and not as the
only way to find an item: what is never shown cannot be clicked."""
_STANDING_LIMITS = (
    "Measured offline, on what people did when something else chose what they saw; an experiment may differ.",
    "Items without training events have no learned vector, unless the model reads what items are: they reach a slate "
    "by chance or through another source; asked about, what followed them since and what is popular answer.",
    "A user without known history gets what is popular; the answer is then marked as degraded.",
    "Histories can reveal people. The bundle holds user ids and histories in the clear: restrict who may read it.",
)


def model_card(
    model: TrainedModel,
    data: DataFacts,
    parity: Parity,
    measured: Measured,
    *,
    actions: Actions,
    ranker: TrainedRanker | None = None,
) -> str:
    """Return the card.

    Args:
        model: what was exported, with its evidence.
        data: facts of the store.
        parity: how the exported encoder compares with the trained one.
        measured: the index.
        actions: of the data, and what they are live.
        ranker: the second stage, if there is one.
    """
    evidence = model.evidence
    sections = {
        "What it is for": _PURPOSE.replace("\n", " "),
        "Data": bullets(_data(data, evidence)),
        "What people did": _actions(actions),
        "Protocol": _protocol(model, evidence),
        "Quality on the test cases": _quality(model, evidence),
        "Where it is good and where not": _slices(evidence),
        **({} if ranker is None else {"The ranker": ranker_section(ranker)}),
        "Limitations": "\n".join(f"- {line}" for line in _limits(model, data, evidence)),
        "As served": bullets(_served(model, parity, measured)),
        "Settings": _settings(model.config),
        "Made with": bullets(_made_with(evidence)),
    }
    parts = [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join([f"# Model card: {model.name}, {model.run_id}", *parts]) + "\n"


def _data(data: DataFacts, evidence: Evidence) -> dict[str, str]:
    first, last = data.first_event_at, data.last_event_at
    span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first and last else "no times"
    unnamed = evidence.card.get("data", {}).get("num_visitors", 0)
    visitors = f" and {unnamed:,} visitors without an id" if unnamed else ""
    dropped = ", ".join(f"{rule} {count:,}" for rule, count in evidence.left_out.items() if count)
    return {
        "name": data.name,
        "hash": f"`{data.data_hash}`",
        "events": f"{data.num_events:,} by {data.num_users:,} users{visitors} on {data.num_items:,} items, {span}",
        "rows left out": dropped or "none recorded",
        "licence": evidence.licence,
    }


def _actions(actions: Actions) -> str:
    if not actions.facts:
        return "The data does not say; every event counts the same."
    rows = []
    for one in actions.facts:
        chosen = actions.read_as(one.event_type)
        live = (
            f"custom, named {one.name}" if one.event_type == UNNAMED else "no" if chosen is not one else one.event_type
        )
        rows.append([one.name, one.event_type, f"{one.num_events:,}", live])
    note = (
        "A live event is read as the action in whose row it stands; any other is an act of which nothing was learned."
    )
    return f"{table(['action', 'event type', 'events', 'live event read as it'], rows)}\n\n{note}"


def _protocol(model: TrainedModel, evidence: Evidence) -> str:
    cases = evidence.report.get("num_cases")
    counted = f" {cases:,} test cases." if cases else ""
    return (
        f"{model.metrics.protocol}.{counted} The whole catalogue is ranked, items of the history are removed, "
        "targets never. Weights and settings were chosen on the validation cases, not on the test cases."
    )


def _quality(model: TrainedModel, evidence: Evidence) -> str:
    if not evidence.quality:
        return "Not recorded with intervals."
    rows = [
        [
            f"**{model.name}**",
            *(f"**{m.mean:.4f}** ({m.low:.4f} to {m.high:.4f})" for m in evidence.quality.values()),
            "",
        ]
    ]
    for row in sorted(evidence.report.get("baselines", []), key=lambda row: -row["metrics"][METRICS[0]]):
        lead = row[f"model_minus_baseline_{METRICS[0]}"]
        difference = f"{lead['difference']:+.4f} ({lead['low']:+.4f} to {lead['high']:+.4f})"
        rows.append([row["name"], *(f"{row['metrics'][name]:.4f}" for name in METRICS), difference])
    heads = ["", *(name.upper() for name in METRICS), f"model - baseline, {METRICS[0].upper()}"]
    verdict = evidence.report.get("verdict") or {}
    said = [verdict["text"], *(f"- {reason}" for reason in verdict["reasons"])] if verdict else []
    note = "In brackets: 95 % interval, bootstrap over users; differences are paired."
    return "\n\n".join([table(heads, rows), note, *(["\n".join(said)] if said else [])])


def _slices(evidence: Evidence) -> str:
    pieces = evidence.report.get("slices", [])
    if not pieces:
        return "Not recorded."
    rows = [[s["by"], s["label"], f"{s['count']:,}", f"{s['hr']:.4f}", f"{s['ndcg']:.4f}"] for s in pieces]
    return table(["by", "slice", "cases or targets", "HR@10", "NDCG@10"], rows)


def _limits(model: TrainedModel, data: DataFacts, evidence: Evidence) -> list[str]:
    found = list(_STANDING_LIMITS)
    if data.last_event_at:
        found.append(f"The data ends on {data.last_event_at:%Y-%m-%d}; what people do after that is not in it.")
    worst = weakest(evidence.report.get("slices", []))
    if worst:
        found.append(f"Weakest by {worst['by']}: {worst['label']} ({worst['count']:,}), NDCG@10 {worst['ndcg']:.4f}.")
    coverage = model.metrics.values.get("coverage@10")
    if coverage is not None:
        found.append(f"Its lists of ten show {coverage:.0%} of the catalogue; the rest is seen by nobody through them.")
    verdict = evidence.report.get("verdict")
    if verdict is None:
        found.append("No baseline was evaluated with this run; nothing says that the model is better than counting.")
    elif not (verdict["leads"] and verdict["clear"]):
        found.append(f"It is not shown to be better than {verdict['rival']}, which only counts or solves.")
    return found


def _served(model: TrainedModel, parity: Parity, measured: Measured) -> dict[str, str]:
    return {
        "encoder": f"ONNX, reads {', '.join(model.encoder.inputs)}, up to {model.encoder.max_length} events; largest "
        f"difference to the trained model {parity.max_difference:.1e} over {parity.rows:,} histories",
        "index": f"{measured.factory}, recall@{measured.recall_at} {measured.recall:.4f} of exact search",
    }


def _settings(config: Mapping[str, Any]) -> str:
    chosen = {name: config[name] for name in _SETTINGS if config.get(name) is not None}
    return f"```yaml\n{yaml.safe_dump(_plain(chosen), sort_keys=False)}```" if chosen else "Not recorded."


def _plain(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items() if key not in _SAID_BY_CODE}
    return node


def _made_with(evidence: Evidence) -> dict[str, str]:
    card, training = evidence.card, evidence.card.get("training", {})
    facts = {
        "trained at": card.get("created_at"),
        "commit": card.get("git_commit"),
        "best epoch": training.get("best_epoch"),
        "learned from teachers": ", ".join(f"{t['run']} (weights {t['weights']})" for t in card.get("teachers", [])),
        "processor time": f"{training['cpu_s'] / 60:.1f} minutes" if training.get("cpu_s") else None,
        "machine": f"{card['machine']['cpu']}, {card['machine']['cores']} cores" if card.get("machine") else None,
        "versions": ", ".join(f"{name} {number}" for name, number in card.get("versions", {}).items()),
    }
    known = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    return known or {"run card": "none"}
