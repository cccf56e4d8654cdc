"""Retrieval, then ranking, in process: the service ranks what training would have ranked, in the same order."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ranked_world import ACTIONS_KNOWN, SETTINGS, ranked_world

from retrank.contract.api import RecommendRequest, Session, SlateResponse
from retrank.contract.candidate_features import Asker
from retrank.contract.cases import Cases
from retrank.contract.errors import BundleError
from retrank.contract.proposals import Merged
from retrank.contract.ranker_inputs import RankerArrays
from retrank.contract.ranker_spec import RankerSpec
from retrank.contract.sequences import Sequences
from retrank.contract.slate_options import SeenPolicy
from retrank.data.visits import Visits
from retrank.serving.draft import Draft
from retrank.serving.ranker import SecondStage
from retrank.serving.recommender import Recommender
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages.hydrate import Hydrate
from retrank.serving.stores.protocol import LiveEvent, Profile
from retrank.training.ranking.reranker import Reranker, outputs_of
from retrank.training.ranking.sources import Sources, item_numbers
from retrank.training.ranking.table import ranking_table
from retrank.training.scorer import ModelScorer

NOW = 4_000_000.0


@pytest.fixture(scope="module")
def recommender(ranked_bundle: Path) -> Recommender:
    runtime = Recommender.open(ranked_bundle).runtime
    return Recommender(runtime, PipelineSettings(), now=lambda: NOW)


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _offline(user: int) -> tuple[list[str], list[float]]:
    """The ranking that training and evaluation see for the same request."""
    world = ranked_world()
    assert world.ranker is not None
    ranker, histories = world.ranker, world.catalogue.histories
    numbers = item_numbers(world.catalogue.items, SETTINGS.numbers)
    sources = Sources(ModelScorer(world.model.encoder), histories, 50, SETTINGS, numbers)
    scorer = Reranker(
        sources,
        lambda table: ranker.spec.score(outputs_of(ranker.model, table)),
        history_length=ranker.spec.history_length,
        rotation=ranker.rotation,
    )
    asked: Sequences = replace(histories.take(np.array([user])), asked_at=np.array([int(NOW * 1e6)]))
    scores = scorer.score(asked)[0]
    order = [int(row) for row in np.argsort(-scores, kind="stable") if np.isfinite(scores[row])]
    return [f"i{row}" for row in order], [float(scores[row]) for row in order]


@pytest.mark.parametrize("user", [0, 3, 11, 19])
def test_the_service_ranks_as_training_does(recommender: Recommender, user: int) -> None:
    expected_ids, expected_scores = _offline(user)
    slate = recommender.recommend(RecommendRequest(user_id=f"u{user + 1}", k=8))
    assert slate.degraded.reasons == []
    assert _ids(slate) == expected_ids[:8]
    np.testing.assert_allclose([item.score for item in slate.items], expected_scores[:8], rtol=1e-3, atol=2e-6)


class _Recorded:
    """A session that keeps what it was asked."""

    def __init__(self, session: Any) -> None:
        self.session, self.read = session, dict[str, NDArray[Any]]()

    def run(self, outputs: list[str], read: dict[str, NDArray[Any]]) -> Any:
        self.read = dict(read)
        return self.session.run(outputs, read)


@pytest.mark.parametrize("user", [0, 3, 11, 19])
def test_the_service_reads_what_the_training_table_holds_for_the_same_request(
    recommender: Recommender, user: int
) -> None:
    second = recommender.runtime.second
    assert second is not None
    recorded = _Recorded(second.session)
    runtime = replace(recommender.runtime, second=replace(second, session=recorded))
    slate = Recommender(runtime, PipelineSettings(), now=lambda: NOW).recommend(
        RecommendRequest(user_id=f"u{user + 1}", k=8)
    )
    assert slate.degraded.reasons == []
    world = ranked_world()
    histories = world.catalogue.histories
    numbers = item_numbers(world.catalogue.items, SETTINGS.numbers)
    sources = Sources(ModelScorer(world.model.encoder), histories, 50, SETTINGS, numbers)
    asked = replace(histories.take(np.array([user])), asked_at=np.array([int(NOW * 1e6)]))
    nothing = Sequences.from_lists([[]])
    visits = Visits(Cases(np.array([user]), asked, nothing), np.zeros((0, 2), np.float32))
    length = second.spec.history_length
    table = ranking_table(sources, visits, history_length=length, progress=False)
    batch = table.batch(np.array([0]), max_candidates=0, random=None)
    expected = {name: part.numpy() for name, part in batch._asdict().items() if name in RankerArrays._fields}
    assert expected.keys() == recorded.read.keys() == set(RankerArrays._fields)
    known = min(length, int(histories.lengths[user]))
    assert (expected["history_ages"][:, : length - known] == -1).all()  # padding, which the service does not send
    for name in ("history_vectors", "history_ages", "history_actions"):
        expected[name] = expected[name][:, length - known :]
    for name in ("history_ages", "history_actions", "history_vectors", "candidate_vectors"):
        np.testing.assert_array_equal(recorded.read[name], expected[name], err_msg=name)
    features = dict(zip(second.spec.features, np.moveaxis(expected["features"][0], 1, 0), strict=True))
    for at, (feature, values) in enumerate(features.items()):
        found = recorded.read["features"][0, :, at]
        if feature == "sequence_score":  # a product with the query, which ONNX Runtime and torch round differently
            np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6, err_msg=feature)
        else:
            np.testing.assert_array_equal(found, values, err_msg=feature)
    np.testing.assert_allclose(recorded.read["query"], expected["query"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", ["encoder", "ranker"])
def test_what_a_known_user_did_is_read(recommender: Recommender, part: str) -> None:
    """The same events without their actions get other scores, from the retriever and from the ranker."""
    runtime = recommender.runtime
    if part == "encoder":
        runtime = replace(runtime, second=None)
    forgetful = replace(runtime, histories=replace(runtime.histories, actions=None))
    slates = [
        Recommender(known, PipelineSettings(), now=lambda: NOW).recommend(RecommendRequest(user_id="u1", k=8))
        for known in (runtime, forgetful)
    ]
    assert [slate.degraded.reasons for slate in slates] == [[], []]
    first, second = ({item.item_id: item.score for item in slate.items} for slate in slates)
    assert first != second


def test_the_ranker_reads_the_actions_of_a_request(recommender: Recommender) -> None:
    second = recommender.runtime.second
    assert second is not None
    assert "history_actions" in second.inputs
    rows = np.array([4, 9])
    merged = Merged(rows, np.ones((2, 5), dtype=np.int64), np.zeros((2, 5), dtype=np.float32))
    history, ages = np.array([1, 2, 3]), np.array([9_000, 800, 70])
    scored = [
        second.score(
            merged,
            Asker(history, ages, np.array(actions), np.ones(8, dtype=np.float32), NOW),
            recommender.runtime.item_vectors,
        )
        for actions in ([0, 0, 0], [1, 1, 1], [1, 1, 2])
    ]
    assert len({tuple(np.round(scores, 9)) for scores in scored}) == 3


def test_actions_have_rows_and_strange_ones_have_none(recommender: Recommender) -> None:
    actions = recommender.runtime.actions
    assert [actions.row(kind) for kind in (*ACTIONS_KNOWN, "impression", "")] == [1, 2, 0, 0]


def test_live_events_are_read_as_the_actions_of_the_data(recommender: Recommender) -> None:
    """The data says view and buy, callers send click and purchase; a cart is an act of which nothing was learned."""
    runtime = recommender.runtime
    hydrate = Hydrate(runtime.users, runtime.items, runtime.histories, 0, lambda: NOW, runtime.actions)
    kinds = ("click", "purchase", "cart", "buy")
    events = [LiveEvent(kind, kind, "i1", int(NOW * 1e6) - 4 + place) for place, kind in enumerate(kinds)]
    draft = hydrate.run(Draft(RecommendRequest(user_id="somebody new"), profile=Profile(tuple(events), {})))
    assert draft.actions.tolist() == [1, 2, 0, 2]


def test_a_purchase_weighs_on_the_query_as_a_buy_did_in_training(recommender: Recommender) -> None:
    """The encoder's vector of a live purchase is that of a stored buy: one definition of what was done."""
    runtime = recommender.runtime
    encoder, actions = runtime.encoder, runtime.actions
    rows, ages = np.array([3, 8]), np.array([50, 20])
    stored = Sequences.from_lists([[3, 8]], times=[[0, 1]], actions=[[1, 2]])
    live = np.array([actions.row("click"), actions.row("purchase")])
    np.testing.assert_array_equal(encoder.encode(rows, ages, live, runtime.fields.untold), encoder.run(stored)[0])


@pytest.mark.parametrize(
    ("policy", "counts"),
    [
        (None, {0, 1, 2}),
        (SeenPolicy(types=["purchase"]), {0, 2}),
        (SeenPolicy(types=["click"]), {0, 1}),
        (SeenPolicy(types=["cart"]), {0}),
        (SeenPolicy(types=["impression"]), set()),
    ],
)
def test_what_counts_as_seen_follows_the_actions_of_sealed_events(
    recommender: Recommender, policy: SeenPolicy | None, counts: set[int]
) -> None:
    """An event whose action is unknown counts as every act, and as no impression."""
    runtime = recommender.runtime
    hydrate = Hydrate(runtime.users, runtime.items, runtime.histories, 0, lambda: NOW, runtime.actions)
    draft = hydrate.run(Draft(RecommendRequest(user_id="u1", seen=policy)))
    did = zip(draft.history.tolist(), draft.actions.tolist(), strict=True)
    assert draft.seen.tolist() == sorted({row for row, action in did if action in counts})


def test_sealed_events_are_seen_for_so_many_days(recommender: Recommender) -> None:
    runtime = recommender.runtime
    hydrate = Hydrate(runtime.users, runtime.items, runtime.histories, 0, lambda: NOW, runtime.actions)
    draft = hydrate.run(Draft(RecommendRequest(user_id="u1", seen=SeenPolicy(days=25))))
    new = draft.ages <= 25 * 86_400
    assert 0 < np.count_nonzero(new) < len(new)
    assert draft.seen.tolist() == sorted(set(draft.history[new].tolist()))


def test_a_session_without_actions_continues_a_history_that_has_them(recommender: Recommender) -> None:
    runtime = recommender.runtime
    hydrate = Hydrate(runtime.users, runtime.items, runtime.histories, 0, lambda: NOW, runtime.actions)
    draft = hydrate.run(Draft(RecommendRequest(user_id="u1", session=Session(recent=["i1", "i2"]))))
    assert runtime.histories.actions is not None
    stored = runtime.histories.actions[: runtime.histories.offsets[1]].tolist()
    assert draft.actions.tolist() == [*stored, 0, 0]
    assert len(draft.actions) == len(draft.ages) == len(draft.history)


def test_every_source_takes_part(recommender: Recommender) -> None:
    slates = [recommender.recommend(RecommendRequest(user_id=f"u{user}", k=20)) for user in range(1, 21)]
    named = {source for slate in slates for item in slate.items for source in item.sources}
    assert named == set(SETTINGS.limits)


def test_a_slate_longer_than_the_limits_is_filled(recommender: Recommender) -> None:
    slate = recommender.recommend(RecommendRequest(session=Session(recent=["i1"]), k=49))
    assert len(slate.items) == 49
    assert "i1" not in _ids(slate)


def test_seen_and_excluded_items_stay_away(recommender: Recommender) -> None:
    first = recommender.recommend(RecommendRequest(user_id="u1", k=5))
    second = recommender.recommend(RecommendRequest(user_id="u1", k=5, exclude_items=_ids(first)))
    assert set(_ids(first)).isdisjoint(_ids(second))


def test_nobody_is_answered_with_popular_items(recommender: Recommender) -> None:
    slate = recommender.recommend(RecommendRequest(k=5))
    assert {source for item in slate.items for source in item.sources} == {"popular"}


class _Broken:
    """A session that has lost its graph."""

    def run(self, *_: Any) -> Any:
        raise RuntimeError("no graph")


def test_a_ranker_that_fails_leaves_retrieval_scores(
    recommender: Recommender, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = recommender.runtime.second
    assert isinstance(second, SecondStage)
    broken = replace(recommender.runtime, second=replace(second, session=_Broken()))
    slate = Recommender(broken, PipelineSettings(), now=lambda: NOW).recommend(RecommendRequest(user_id="u1", k=5))
    assert slate.degraded.reasons == ["ranker_failed"]
    assert len(slate.items) == 5
    scores = [item.score for item in slate.items]
    assert scores == sorted(scores, reverse=True)
    assert "stage ranker failed" in caplog.text


class _Failing(_Broken):
    """Counts how often it was asked, and works again when it is told to."""

    def __init__(self, real: Any) -> None:
        self.real, self.asked, self.well = real, 0, False

    def run(self, *asked: Any, **more: Any) -> Any:
        self.asked += 1
        return self.real.run(*asked, **more) if self.well else super().run(*asked, **more)


def test_a_ranker_that_keeps_failing_is_left_alone_and_tried_again_a_second_later(recommender: Recommender) -> None:
    second = recommender.runtime.second
    assert isinstance(second, SecondStage)
    session, times = _Failing(second.session), [0.0]
    runtime = replace(recommender.runtime, second=replace(second, session=session))
    broken = Recommender(runtime, PipelineSettings(), now=lambda: NOW, clock=lambda: times[0])

    def lacks() -> list[str]:
        slate = broken.recommend(RecommendRequest(user_id="u1", k=5))
        assert len(slate.items) == 5
        return list(slate.degraded.reasons)

    assert broken.models()["ranker"] == "closed"
    assert {tuple(lacks()) for _ in range(50)} == {("ranker_failed",)}
    assert session.asked == 20
    assert broken.models() == {"sequence": "closed", "ranker": "open"}
    session.well, times[0] = True, 1.5
    assert lacks() == []
    assert lacks() == []
    assert broken.models()["ranker"] == "closed"


def test_a_score_that_is_no_number_counts_as_a_failure_of_the_ranker(recommender: Recommender) -> None:
    stage = recommender.runtime.second
    assert stage is not None
    broken = replace(recommender.runtime, second=replace(stage, spec=_Nonsense.model_validate(stage.spec.model_dump())))
    slate = Recommender(broken, PipelineSettings(), now=lambda: NOW).recommend(RecommendRequest(user_id="u3", k=8))
    assert slate.degraded.reasons == ["ranker_failed"]
    assert all(np.isfinite(item.score) for item in slate.items)


class _Nonsense(RankerSpec):
    """Of a ranker whose calibration divides by zero."""

    def score(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(outputs), np.nan)


def test_a_ranker_that_answers_differently_is_refused(ranked_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondStage, "outputs", lambda *_: np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(BundleError, match="golden ranking 0 gets other scores"):
        Recommender.open(ranked_bundle)
