"""What a ranker is worth: against its retriever, a blend and the baselines; calibration; sources; context."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.candidate_features import MOMENT_FEATURES
from retrank.contract.ranker_spec import RankerSpec
from retrank.data.store import EventStore
from retrank.metrics.bootstrap import PairedDifference, paired_bootstrap
from retrank.models.protocols import Scorer
from retrank.models.ranker import Ranker
from retrank.training.baseline_table import BaselineRow, BaselineTable
from retrank.training.evaluate import as_text, baselines_of
from retrank.training.evaluator import Evaluation, evaluate
from retrank.training.ranking.blend import SourceGain, fit_blend, source_gains
from retrank.training.ranking.head_quality import HeadQuality, ValueQuality, head_quality, value_quality
from retrank.training.ranking.prepared import Prepared
from retrank.training.ranking.ranks import candidate_ranks
from retrank.training.ranking.reranker import Reranker, outputs_of
from retrank.training.ranking.shown import Coverage
from retrank.training.ranking.table import RankingTable
from retrank.training.ranking.windows import Retriever
from retrank.training.report import METRIC, ReportFacts, write_report

RETRIEVER, BLEND, RANKER = "retriever", "blend", "Ranker"


@dataclass(frozen=True)
class ContextWorth:
    """NDCG@10 with the moment of each request, and with those of other requests instead.

    Attributes:
        real, shuffled: means over the cases.
        lift: real minus shuffled, paired by user.
    """

    real: float
    shuffled: float
    lift: PairedDifference


@dataclass(frozen=True)
class RankerReport:
    """Everything that is said about a ranker.

    Attributes:
        metrics: as `write_report` returns them.
        gains: blends of the sources, on test.
        heads, values: by name of the binary head, and of the value head, on visits of the test window.
        context: what the moments of requests are worth, on test.
        against_retriever, against_blend: NDCG@10 of the ranker minus that of its retriever, and of the blend of the
            sources, paired by user: what it is worth at all, and what it is worth beyond adding scores up.
        coverage: how many of the visits to learn from have an impression; None = places play no part.
    """

    metrics: dict[str, Any]
    gains: list[SourceGain]
    heads: dict[str, HeadQuality]
    values: dict[str, ValueQuality]
    context: ContextWorth
    against_retriever: PairedDifference
    against_blend: PairedDifference
    coverage: Coverage | None


def assess(
    run_dir: Path,
    store: EventStore,
    retriever: Retriever,
    prepared: Prepared,
    model: Ranker,
    *,
    spec: RankerSpec,
    settings: Mapping[str, Any],
) -> RankerReport:
    """Evaluate on test and write the report of the run.

    Args:
        run_dir: folder of the run, must exist.
        store: the data.
        retriever: the run whose candidates are ranked.
        prepared: candidates of every window.
        model: the ranker in eval mode.
        spec: calibrated.
        settings: `title`, `details`, `baselines` (evaluate them too) and `progress`.
    """
    split, names = retriever.split, spec.sources

    def judge(scorer: Scorer) -> Evaluation:
        return evaluate(scorer, split.test, split.train, progress=settings["progress"])

    def through(score: Callable[[RankingTable], NDArray[np.floating]]) -> Reranker:
        length = spec.history_length
        return Reranker(prepared.later, score, history_length=length, rotation=prepared.rotation)

    blend = fit_blend(prepared.fit, range(len(names)))
    first, blended = judge(retriever.scorer), judge(through(blend.score))
    ranked = judge(through(lambda table: spec.score(outputs_of(model, table))))
    validation = {
        RETRIEVER: evaluate(retriever.scorer, split.validation, split.train, ks=(10,)).metrics,
        BLEND: _metrics(prepared, blend.score(prepared.validation), store.num_items),
        RANKER: _metrics(prepared, spec.score(outputs_of(model, prepared.validation)), store.num_items),
    }
    table = baselines_of(store, split, progress=settings["progress"]) if settings["baselines"] else None
    rows = [_row(RETRIEVER, first, validation), _row(BLEND, blended, validation), *(table.rows if table else [])]
    everyone = BaselineTable(store.facts.data_hash, split.protocol, "train", rows, table.skipped if table else {})
    facts = ReportFacts(
        title=settings["title"],
        model=RANKER,
        data_name=store.facts.name,
        data_hash=store.facts.data_hash,
        protocol=split.protocol,
        details=settings["details"],
        validation=validation[RANKER],
    )
    metrics = write_report(run_dir, facts, ranked, everyone)
    print(as_text({RANKER: ranked.metrics} | {row.name: row.metrics for row in rows}, store, split, fit_on="train"))
    if metrics["verdict"]:
        print("", metrics["verdict"]["text"], *metrics["verdict"]["reasons"], sep="\n")
    outputs = outputs_of(model, prepared.visits)
    return RankerReport(
        metrics=metrics,
        gains=source_gains(prepared.fit, prepared.test, prepared.test_cases, names, store.num_items),
        heads=head_quality(outputs, prepared.visits, spec),
        values=value_quality(outputs, prepared.visits, spec, prepared.fit),
        context=context_worth(model, prepared, spec, store.num_items),
        against_retriever=_lead(ranked, first),
        against_blend=_lead(ranked, blended),
        coverage=prepared.coverage,
    )


def context_worth(model: Ranker, prepared: Prepared, spec: RankerSpec, num_items: int) -> ContextWorth:
    """Return what the moments of requests are worth on test."""
    found = []
    for table in (prepared.test, shuffled_moments(prepared.test, spec, np.random.default_rng(0))):
        scores, everything = spec.score(outputs_of(model, table)), np.ones(len(table.rows), dtype=bool)
        found.append(candidate_ranks(table, prepared.test_cases, scores, num_items, shown=everything))
    real, shuffled = (ranks.per_case((10,))[METRIC] for ranks in found)
    lift = paired_bootstrap(shuffled, real, found[0].users)
    return ContextWorth(float(real.mean()), float(shuffled.mean()), lift)


def shuffled_moments(table: RankingTable, spec: RankerSpec, rng: np.random.Generator) -> RankingTable:
    """Return the table with the moments of requests dealt out among them anew."""
    columns = [spec.features.index(name) for name in MOMENT_FEATURES]
    order = rng.permutation(len(table))
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    features = table.features.copy()
    features[:, columns] = table.features[table.offsets[order[owners]]][:, columns]
    return table.with_features(features)


def _lead(own: Evaluation, other: Evaluation) -> PairedDifference:
    before, after = (found.ranks.per_case((10,))[METRIC] for found in (other, own))
    return paired_bootstrap(before, after, own.ranks.users)


def _metrics(prepared: Prepared, scores: NDArray[np.float64], num_items: int) -> dict[str, float]:
    table = prepared.validation
    shown = np.ones(len(table.rows), dtype=bool)
    return candidate_ranks(table, prepared.validation_cases, scores, num_items, shown=shown).mean((10,))


def _row(name: str, evaluation: Evaluation, validation: Mapping[str, Mapping[str, float]]) -> BaselineRow:
    return BaselineRow(
        name=name,
        settings={},
        validation=validation[name][METRIC],
        metrics=evaluation.metrics,
        fit_seconds=0.0,
        score_seconds=evaluation.scorer_seconds,
        ranks=evaluation.ranks,
    )
