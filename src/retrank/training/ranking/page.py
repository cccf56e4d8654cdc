"""`ranking.json` and `ranking.html`: what sources, calibration and context are worth, for programs and for people."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.ranker_spec import RankerSpec
from retrank.metrics.bootstrap import PairedDifference
from retrank.training import figures
from retrank.training.ranking.evaluate import RankerReport
from retrank.training.ranking.head_quality import amount_curves, probability_curves
from retrank.training.ranking.load import RANKING
from retrank.training.ranking.table import RankingTable
from retrank.training.report import render

PAGE = "ranking.html"


def write_page(
    run_dir: Path,
    title: str,
    report: RankerReport,
    outputs: NDArray[np.float32],
    visits: RankingTable,
    spec: RankerSpec,
) -> None:
    """Write both files.

    Args:
        run_dir: folder of the run.
        title: headline.
        report: what was found.
        outputs: `[M, H]` of the ranker for the visits of the test window.
        visits: those visits.
        spec: calibrated.
    """
    record = as_record(report)
    (run_dir / RANKING).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    amounts = amount_curves(outputs, visits, spec)
    page = render(
        "ranking.html",
        title=title,
        figure=figures.reliability(probability_curves(outputs, visits, spec)),
        amounts=figures.amounts(amounts) if amounts else None,
        **record,
    )
    (run_dir / PAGE).write_text(page, encoding="utf-8")


def as_record(report: RankerReport) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "gains": [
            {"sources": list(gain.sources), "recall": gain.recall, **gain.ranks.mean((10, 100))}
            for gain in report.gains
        ],
        "heads": {name: asdict(quality) for name, quality in report.heads.items()},
        "values": {name: asdict(quality) for name, quality in report.values.items()},
        "context": asdict(report.context),
        "against_retriever": asdict(report.against_retriever),
        "against_blend": asdict(report.against_blend),
        "shown": None if report.coverage is None else asdict(report.coverage) | {"share": report.coverage.share},
    }


def as_text(report: RankerReport) -> str:
    """Lay the report out as lines of text."""
    lines = [f"{'sources in the blend':<52}{'proposed':>9}{'NDCG@10':>9}{'HR@10':>8}"]
    for gain in report.gains:
        metrics = gain.ranks.mean((10,))
        names = ", ".join(gain.sources)
        lines.append(f"{names:<52}{gain.recall:>9.4f}{metrics['ndcg@10']:>9.4f}{metrics['hr@10']:>8.4f}")
    for name, head in report.heads.items():
        lines.append(
            f"head {name}: rate {head.rate:.4f}, calibration error {head.ece:.4f} (uncalibrated {head.raw_ece:.4f}), "
            f"normalised entropy {head.normalised_entropy:.3f}, AUC {head.auc:.4f}, in a request {head.grouped_auc:.4f}"
        )
    for name, value in report.values.items():
        lines.append(
            f"head {name}: {value.count:,} amounts, mean {value.mean:.2f}, expected {value.expected:.2f}; error "
            f"{value.error:.1%} of the mean (always the usual amount {value.usual_error:.1%}), calibration error "
            f"{value.calibration_error:.1%}, rank correlation {value.correlation:.3f}"
        )
    context = report.context
    lines.append(f"NDCG@10 {context.real:.4f}, with moments shuffled {context.shuffled:.4f}: {_interval(context.lift)}")
    for name, gap in (("retriever", report.against_retriever), ("blend", report.against_blend)):
        lines.append(f"ranker - {name}, NDCG@10: {_interval(gap)}")
    if report.coverage is not None:
        lines.append(report.coverage.as_text())
    return "\n".join(lines)


def _interval(gap: PairedDifference) -> str:
    clear = "" if gap.low > 0 or gap.high < 0 else ", which includes zero"
    return f"{gap.difference:+.4f} ({gap.low:+.4f} .. {gap.high:+.4f}{clear})"
