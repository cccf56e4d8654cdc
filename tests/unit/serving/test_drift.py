"""Figures about what was answered lately: known answers for each, and what they cost nobody."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from living_service import GENEROUS, eventually, living_service

from retrank.contract.api import RecommendRequest, Session
from retrank.serving.drift import MAX_NOTED, Drift, stability_index
from retrank.serving.gather import Gather, Stores
from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.facade import Quality, Telemetry

NOW = 1.8e9


class Heard(Telemetry):
    """Keeps the newest figures."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.checked = 0

    def quality(self, name: Quality, value: float) -> None:
        self.figures[name] = value

    def recall_queries(self, count: int) -> None:
        self.checked += count


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _drift(recommender: Recommender, heard: Heard, queries: int = 8) -> Drift:
    gather = Gather(Stores(), deadline_ms=1_000, clock=lambda: 0.0, now=lambda: NOW)
    rng = np.random.default_rng(0)
    return Drift(
        lambda: recommender, gather, heard, now=lambda: NOW, clock=lambda: 0.0, rng=rng, recall_queries=queries
    )


def _answer(drift: Drift, recommender: Recommender, request: RecommendRequest) -> None:
    drift.note("default", request, recommender.recommend(request))


def test_unknown_ids_and_coverage_are_counted(recommender: Recommender) -> None:
    heard = Heard()
    drift = _drift(recommender, heard)
    for request in (
        RecommendRequest(user_id="u1", k=50, exclude_seen=False),
        RecommendRequest(user_id="nobody"),
        RecommendRequest(session=Session(recent=["i1", "new", "newer"])),
    ):
        _answer(drift, recommender, request)
    drift.poll()
    assert heard.figures["unknown_id_ratio"] == pytest.approx(3 / 5)
    assert heard.figures["catalogue_coverage"] == 1.0
    assert "score_psi" not in heard.figures  # three scores say nothing


def test_the_recall_is_measured_on_requests_as_they_were_answered(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of this bundle is exact; one that finds half of the top is told as that."""
    heard = Heard()
    drift = _drift(recommender, heard, queries=4)
    for user in range(1, 11):
        _answer(drift, recommender, RecommendRequest(user_id=f"u{user}"))
    _answer(drift, recommender, RecommendRequest())
    drift.poll()
    assert heard.figures["retrieval_recall_sampled"] == 1.0
    assert 3 <= heard.checked <= 4  # somebody without a history has no query
    index = recommender.runtime.index
    whole: Callable[..., np.ndarray[tuple[int], np.dtype[np.int64]]] = index.search
    monkeypatch.setattr(index, "search", lambda query, count: whole(query, count)[::2])
    drift.poll()
    assert heard.figures["retrieval_recall_sampled"] == pytest.approx(0.5, abs=0.02)


def test_scores_that_move_away_from_the_first_ones_are_drift(recommender: Recommender) -> None:
    heard = Heard()
    drift = _drift(recommender, heard, queries=0)
    usual = [RecommendRequest(user_id=f"u{user}", exclude_seen=False) for user in range(1, 21)]
    for _ in range(MAX_NOTED // 20):
        for request in usual:
            _answer(drift, recommender, request)
    drift.poll()
    assert heard.figures["score_psi"] < 0.01
    for number in range(MAX_NOTED):
        _answer(drift, recommender, RecommendRequest(session=Session(recent=[f"i{number % 5 + 1}"])))
    drift.poll()
    assert heard.figures["score_psi"] > 0.25


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.0, 0.05), (0.5, 0.15, 0.4), (3.0, 3.0, 20.0)])
def test_the_stability_index_of_shifted_normals(shift: float, low: float, high: float) -> None:
    """For a shift by half a deviation the index of the exact shares is 0.24."""
    rng = np.random.default_rng(1)
    assert low <= stability_index(rng.normal(size=2_000), rng.normal(shift, size=2_000)) <= high


def test_equal_scores_are_no_drift_and_another_constant_is() -> None:
    same = np.ones(300)
    assert stability_index(same, same) == 0.0
    assert stability_index(same, same - 2.0) > 1.0


def test_what_a_rule_moved_says_nothing_about_the_scores_of_the_model(recommender: Recommender) -> None:
    heard = Heard()
    drift = _drift(recommender, heard, queries=0)
    slate = recommender.recommend(RecommendRequest(user_id="u1"))
    moved = [item.model_copy(update={"sources": ["sequence", "boosted"]}) for item in slate.items]
    for _ in range(MAX_NOTED):
        drift.note("default", RecommendRequest(user_id="u1"), slate.model_copy(update={"items": moved}))
    drift.poll()
    assert "score_psi" not in heard.figures


def test_a_service_tells_its_figures_by_itself(recommender: Recommender, tmp_path: Path) -> None:
    heard = Heard()
    quick = GENEROUS.model_copy(update={"quality_every_s": 0.01})
    with living_service(recommender, tmp_path, telemetry=heard, settings=quick) as service:
        service.recommend(RecommendRequest(user_id="u1"))
        eventually(lambda: "retrieval_recall_sampled" in heard.figures)
    assert heard.figures["retrieval_recall_sampled"] == 1.0


def test_the_age_of_what_features_know_is_that_of_the_newest_event(recommender: Recommender) -> None:
    heard = Heard()
    _drift(recommender, heard).poll()
    times = recommender.runtime.histories.times
    expected = {} if times is None else {"feature_age_seconds": NOW - times.max() / 1e6}
    assert heard.figures == pytest.approx(expected)
