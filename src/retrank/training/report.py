"""The report of a run: JSON for programs, `ranks.npz` for comparisons, `report.html` for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from retrank.metrics.bootstrap import PairedDifference, paired_bootstrap
from retrank.metrics.case_ranks import KS, CaseRanks
from retrank.metrics.slices import by_history_length, by_target_popularity
from retrank.training import figures
from retrank.training.baseline_table import BaselineTable
from retrank.training.evaluator import Evaluation, save_ranks
from retrank.training.verdict import verdict

METRICS, REPORT, PAGE, RANKS = "metrics.json", "report.json", "report.html", "ranks.npz"
METRIC = "ndcg@10"
COLUMNS = ("hr@10", "ndcg@10", "mrr@10", "hr@50", "hr@200", "coverage@10", "novelty@10")
_FAMILIES = ("hr", "recall", "ndcg", "mrr", "coverage", "gini", "novelty", "popularity_lift", "untrained_recall")
_TEMPLATES = Path(__file__).parent / "templates"
_LABELS = {
    "hr": "HR",
    "ndcg": "NDCG",
    "mrr": "MRR",
    "popularity_lift": "Popularity lift",
    "untrained_recall": "Recall of targets never seen in training",
}


@dataclass(frozen=True)
class ReportFacts:
    """What a report says about the run.

    Attributes:
        title: headline, such as the name of the experiment.
        model: name of the model in tables.
        data_name: name of the store.
        data_hash: hash of the store.
        protocol: `Split.protocol`.
        details: further lines "what -> value", such as seed, minutes, versions, commit.
        validation: metrics on the validation cases, if known.
    """

    title: str
    model: str
    data_name: str
    data_hash: str
    protocol: str
    details: Mapping[str, str] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)


class _Row(NamedTuple):
    """One line of the table of scorers; the model itself has no difference."""

    name: str
    settings: str
    metrics: Mapping[str, float]
    difference: PairedDifference | None


def write_report(
    run_dir: Path, facts: ReportFacts, evaluation: Evaluation, table: BaselineTable | None = None
) -> dict[str, Any]:
    """Write the four files into a run folder.

    The learning curve is drawn when `logs/` below the folder holds a `metrics.csv`.

    Args:
        run_dir: folder of the run, must exist.
        facts: what the report says about the run.
        evaluation: the model on the test cases.
        table: baselines on the same test cases.

    Returns:
        what `metrics.json` holds: protocol, data_hash, validation and test metrics, test metrics of each baseline, and
        the verdict on the model, None without baselines.
    """
    differences = _differences(evaluation, table)
    rows = table.rows if table else []
    judged = verdict(facts.model, evaluation, facts.validation, rows, differences) if rows else None
    metrics = {
        "protocol": facts.protocol,
        "data_hash": facts.data_hash,
        "validation": dict(facts.validation),
        "test": evaluation.metrics,
        "baselines": {row.name: row.metrics for row in rows},
        "verdict": asdict(judged) if judged else None,
    }
    save_ranks(evaluation, run_dir / RANKS, data_hash=facts.data_hash, protocol=facts.protocol)
    _write_json(run_dir / METRICS, metrics)
    _write_json(run_dir / REPORT, {**_report(facts, evaluation, table, differences), "verdict": metrics["verdict"]})
    page = render("report.html", verdict=judged, **_page(run_dir, facts, evaluation, table, differences))
    (run_dir / PAGE).write_text(page, encoding="utf-8")
    return metrics


def render(template: str, **values: Any) -> str:
    """Fill one of the templates; text is escaped."""
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(label=metric_label, **values)


def metric_label(name: str) -> str:
    """Return how a metric is called in tables: `ndcg@10` -> `NDCG@10`."""
    family, at, k = name.partition("@")
    return _LABELS.get(family, family.capitalize()) + at + k


def _differences(evaluation: Evaluation, table: BaselineTable | None) -> dict[str, PairedDifference]:
    """Model minus each baseline, paired by user."""
    own = evaluation.ranks.per_case((10,))[METRIC]
    rows = table.rows if table else []
    return {row.name: paired_bootstrap(row.ranks.per_case((10,))[METRIC], own, evaluation.ranks.users) for row in rows}


def _report(
    facts: ReportFacts,
    evaluation: Evaluation,
    table: BaselineTable | None,
    differences: Mapping[str, PairedDifference],
) -> dict[str, Any]:
    return {
        **asdict(facts),
        "num_cases": len(evaluation.ranks),
        "num_items": evaluation.ranks.num_items,
        "seconds": evaluation.seconds,
        "scorer_seconds": evaluation.scorer_seconds,
        "metrics": evaluation.metrics,
        "slices": [asdict(piece) for piece in evaluation.slices],
        "baselines": [
            {
                "name": row.name,
                "settings": row.settings,
                f"validation_{METRIC}": row.validation,
                "fit_seconds": row.fit_seconds,
                "score_seconds": row.score_seconds,
                "metrics": row.metrics,
                f"model_minus_baseline_{METRIC}": asdict(differences[row.name]),
            }
            for row in (table.rows if table else [])
        ],
        "skipped_baselines": table.skipped if table else {},
    }


def _page(
    run_dir: Path,
    facts: ReportFacts,
    evaluation: Evaluation,
    table: BaselineTable | None,
    differences: Mapping[str, PairedDifference],
) -> dict[str, Any]:
    rows = [_Row(facts.model, "", evaluation.metrics, None)]
    for row in table.rows if table else []:
        settings = ", ".join(f"{key} {value}" for key, value in row.settings.items())
        rows.append(_Row(row.name, settings, row.metrics, differences[row.name]))
    return {
        "title": facts.title,
        "facts": facts,
        "metric": METRIC,
        "metrics": evaluation.metrics,
        "num_cases": len(evaluation.ranks),
        "num_items": evaluation.ranks.num_items,
        "columns": COLUMNS,
        "rows": sorted(rows, key=lambda row: -row.metrics[METRIC]),
        "rivals": bool(differences),
        "skipped": table.skipped if table else {},
        "ks": KS,
        "families": _FAMILIES,
        "figures": _figures(run_dir, facts.model, evaluation, table),
        "details": {"model": facts.model, "data": facts.data_name, "data hash": facts.data_hash, **facts.details},
    }


def _figures(run_dir: Path, model: str, evaluation: Evaluation, table: BaselineTable | None) -> list[dict[str, str]]:
    ranks: dict[str, CaseRanks] = {model: evaluation.ranks}
    ranks |= {row.name: row.ranks for row in (table.rows if table else [])}
    per_case = {name: case_ranks.per_case((10,))[METRIC] for name, case_ranks in ranks.items()}
    drawn = [
        _figure(
            "Scoreboard", "Mean over test cases with its 95 % interval.", figures.scoreboard(per_case, model, METRIC)
        ),
        _figure("Hit rate by length of the list", "How deep one has to look.", figures.hit_rate_curves(ranks, model)),
    ]
    drawn += _slice_figures(model, evaluation, table)
    drawn.append(_popularity_figure(evaluation))
    drawn += [
        _figure("Learning curve", "Loss in training, quality on validation.", curve)
        for path in sorted((run_dir / "logs").rglob("metrics.csv"))[-1:]
        if (curve := figures.learning_curve(path))
    ]
    return drawn


def _slice_figures(model: str, evaluation: Evaluation, table: BaselineTable | None) -> list[dict[str, str]]:
    """Draw the model beside the baseline that validation likes best."""
    lengths = {model: by_history_length(evaluation.ranks, evaluation.history_lengths)}
    popularity = {model: by_target_popularity(evaluation.ranks, evaluation.train_counts)}
    if table and table.rows:
        best = table.best()
        lengths[best.name] = by_history_length(best.ranks, evaluation.history_lengths)
        popularity[best.name] = by_target_popularity(best.ranks, evaluation.train_counts)
    return [
        _figure(
            "By length of the history",
            "Events known before the target; number of cases below.",
            figures.slice_bars(lengths, model),
        ),
        _figure(
            "By popularity of the target",
            "Head, middle, tail: a third of the training events each; number of targets below.",
            figures.slice_bars(popularity, model),
        ),
    ]


def _popularity_figure(evaluation: Evaluation) -> dict[str, str]:
    counts = {
        "catalogue": np.ones_like(evaluation.shown),
        "training events": evaluation.train_counts,
        "targets": np.bincount(evaluation.ranks.targets, minlength=len(evaluation.shown)),
        "recommended": evaluation.shown,
    }
    svg = figures.popularity_shares(counts, evaluation.train_counts)
    return _figure("What is recommended", "First ten of every list, by popularity of the item in training.", svg)


def _figure(title: str, note: str, svg: str) -> dict[str, str]:
    return {"title": title, "note": note, "svg": svg}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
