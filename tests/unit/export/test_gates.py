"""Gates: which figures pass, and what a refusal says."""

from dataclasses import replace
from typing import Any

import pytest

from retrank.contract.errors import ConfigError, GateError
from retrank.contract.manifest import MetricFacts
from retrank.export.gates import Gates
from retrank.export.parity import Parity
from retrank.export.recall import Latency, Measured
from retrank.metrics.bootstrap import PairedDifference

METRICS = MetricFacts(
    protocol="p",
    values={"ndcg@10": 0.2, "recall@10": 0.4, "broken": float("nan")},
    baselines={"popularity": {"ndcg@10": 0.1, "recall@10": 0.4}, "strong": {"ndcg@10": 0.3}},
)
PARITY = Parity(rows=10_000, max_difference=1e-6, top_k=20, identical=10_000, near_ties=0, different=0)
INDEX = Measured(
    index=None,
    factory="Flat",
    settings={},
    recall_at=100,
    recall=0.951,
    num_queries=500,
    latency=Latency(1, 2),
    exact_latency=Latency(1, 2),
)


def _lead(low: float, high: float) -> dict[str, PairedDifference]:
    return {"popularity": PairedDifference(0.1, 0.1 + (low + high) / 2, (low + high) / 2, low, high, 0.5)}


@pytest.mark.parametrize(("low", "high", "warned"), [(0.01, 0.02, False), (-0.01, 0.02, True), (-0.02, 0.0, True)])
def test_a_lead_over_counting_that_may_be_chance_is_a_warning(low: float, high: float, warned: bool) -> None:
    assert any("not shown to be better" in line for line in Gates().check_leads(_lead(low, high))) == warned


def test_what_counting_beats_for_certain_is_refused_with_the_way_around() -> None:
    with pytest.raises(
        GateError, match=r"0\.0500, baseline 'popularity' has 0\.1000 .* -0\.0600 to -0\.0400.*diverged"
    ):
        Gates().check_leads(_lead(-0.06, -0.04))


@pytest.mark.parametrize(
    "gates",
    [
        Gates(),
        Gates(min_metrics={"ndcg@10": 0.2, "recall@10": 0.3}),
        Gates(must_beat=["popularity"]),
    ],
)
def test_good_enough_metrics_pass(gates: Gates) -> None:
    gates.check_metrics(METRICS)


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (Gates(min_metrics={"ndcg@10": 0.21}), r"ndcg@10 is 0\.2000, the gate requires at least 0\.21"),
        (Gates(min_metrics={"mrr@10": 0.1}), r"mrr@10 is not measured, the gate requires at least 0\.1"),
        (Gates(min_metrics={"broken": 0.0}), "broken is nan"),
        (Gates(must_beat=["strong"]), r"ndcg@10 is 0\.2000, .* baseline 'strong' at 0\.3000"),
        (Gates(must_beat=["popularity"], beat_on=["recall@10"]), r"more than baseline 'popularity' at 0\.4000"),
        (Gates(must_beat=["unheard-of"]), "baseline 'unheard-of' at not measured"),
    ],
)
def test_a_metric_below_its_floor_names_both_figures(gates: Gates, message: str) -> None:
    with pytest.raises(GateError, match=message):
        gates.check_metrics(METRICS)


def test_near_ties_pass_and_are_no_difference() -> None:
    Gates().check_parity(replace(PARITY, identical=9_999, near_ties=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_difference": 2e-4}, "differ by 2.00e-04 over 10000 histories, the gate requires at most 1e-04"),
        ({"max_difference": float("nan")}, "differ by nan"),
        ({"different": 3, "identical": 9_997}, "3 of 10000 top-20 lists differ .* the gate requires 0"),
    ],
)
def test_another_answer_than_torch_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GateError, match=message):
        Gates().check_parity(replace(PARITY, **change))


def test_recall_is_held_against_its_target() -> None:
    Gates().check_index(INDEX, 0.95)
    for seen in (0.949, float("nan")):
        with pytest.raises(GateError, match=r"recall@100 is .* on 500 fresh queries, the gate requires 0\.95"):
            Gates().check_index(replace(INDEX, recall=seen), 0.95)


@pytest.mark.parametrize("settings", [{"parity_rows": 2}, {"parity_tolerance": 0.0}, {"golden_tolerance": -1.0}])
def test_gates_that_prove_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Gates(**settings)
