"""`ranking.json` and `ranking.html`: what sources, calibration and context are worth, for programs and for people."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.ranker_spec import RankerSpec
from retrank.training import figures
from retrank.training.ranking.evaluate import RankerReport
from retrank.training.ranking.table import RankingTable
from retrank.training.report import render

RANKING, PAGE = "ranking.json", "ranking.html"
_BINS = 15


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
    answers = spec.answers(outputs)
    curves = {
        head.name: reliability(answers[:, at], visits.labels[:, at] > 0)
        for at, head in enumerate(spec.heads)
        if head.name in report.heads
    }
    page = render("ranking.html", title=title, figure=figures.reliability(curves), **record)
    (run_dir / PAGE).write_text(page, encoding="utf-8")


def as_record(report: RankerReport) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "gains": [
            {"sources": list(gain.sources), "recall": gain.recall, **gain.ranks.mean((10, 100))}
            for gain in report.gains
        ],
        "heads": {name: asdict(quality) for name, quality in report.heads.items()},
        "context": report.context,
        "against_retriever": asdict(report.against_retriever),
        "against_blend": asdict(report.against_blend),
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
    lines.append(f"NDCG@10 {report.context['real']:.4f}, with moments shuffled {report.context['shuffled']:.4f}")
    for name, gap in (("retriever", report.against_retriever), ("blend", report.against_blend)):
        clear = "" if gap.low > 0 or gap.high < 0 else ", which includes zero"
        lines.append(f"ranker - {name}, NDCG@10: {gap.difference:+.4f} ({gap.low:+.4f} .. {gap.high:+.4f}{clear})")
    return "\n".join(lines)


def reliability(
    said: NDArray[np.float64], happened: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean probability and observed rate of bins of equal size, lowest first."""
    parts = np.array_split(np.argsort(said, kind="stable"), min(_BINS, len(said)))
    return np.array([said[part].mean() for part in parts]), np.array([happened[part].mean() for part in parts])
