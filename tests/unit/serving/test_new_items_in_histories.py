"""What somebody does with an item that no model knows tells of them all the same: its nearest item is read for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_parts import BrokenEncoder
from content_world import NUM_ITEMS, category, described
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.api import RecommendRequest, Session, SimilarRequest, SlateResponse
from retrank.contract.ranking import RankRequest
from retrank.policy.explain import cosines
from retrank.serving.changes import NO_CHANGES
from retrank.serving.new_rows import NewRows, rows_to_read
from retrank.serving.recommender import Recommender
from retrank.serving.settings import PipelineSettings
from retrank.serving.stand_ins import PROPOSED, StandIns
from retrank.serving.stores.protocol import ItemChange, LiveEvent, Profile
from retrank.serving.surroundings import NOTHING_AROUND, Surroundings

NOW = 4_000_000.0
STATE = NO_CHANGES.with_more(
    [ItemChange(f"new{place}", place + 1, False, True, described(place + 100)) for place in range(4)]
)
"""One new item per category: new0 of c0, new1 of c1, ..."""


def _prepared(root: Path) -> Recommender:
    found = Recommender(Recommender.open(root).runtime, PipelineSettings(), now=lambda: NOW)
    found.prepare(STATE)
    return found


@pytest.fixture(scope="module", params=["content_bundle", "ranked_content_bundle"])
def either(request: pytest.FixtureRequest) -> Recommender:
    """A recommender without, and one with a second stage."""
    return _prepared(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def recommender(content_bundle: Path) -> Recommender:
    return _prepared(content_bundle)


def _around(**more: Any) -> Surroundings:
    return NOTHING_AROUND._replace(changes=STATE, **more)


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _new(recommender: Recommender) -> NewRows:
    found = recommender.new_items(STATE)
    assert found is not None
    return found


def _stand_in(recommender: Recommender, item: str) -> str:
    new = _new(recommender)
    return recommender.runtime.items.id(int(new.stand_ins[new.places[item]]))


def _did(item: str, kind: str = "click") -> Profile:
    time_us = int((NOW - 60) * 1e6)
    return Profile((LiveEvent("e", kind, item, time_us),), {item: {kind: time_us}})


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("how", ["visit", "event", "seed"])
def test_whoever_turned_to_one_new_item_only_gets_items_of_its_category(
    recommender: Recommender, place: int, how: str
) -> None:
    ways: dict[str, dict[str, Any]] = {
        "visit": {"session": Session(recent=[f"new{place}"])},
        "event": {"anonymous_id": "a"},
        "seed": {"seed_items": [f"new{place}"]},
    }
    around = _around(profile=_did(f"new{place}")) if how == "event" else _around()
    slate = recommender.recommend(RecommendRequest(k=5, **ways[how]), around)
    assert {category(int(item.removeprefix("i"))) for item in _ids(slate)} == {f"c{place}"}
    assert f"new{place}" not in _ids(slate)
    assert (slate.degraded.is_degraded, slate.items[0].sources) == (False, ["sequence"])


def test_every_model_reads_the_stand_in_where_the_new_item_was(either: Recommender) -> None:
    def slate(item: str) -> SlateResponse:
        session = Session(recent=["i1", item])
        return either.recommend(RecommendRequest(session=session, k=20, exclude_seen=False, explain=False), _around())

    ours, theirs = slate("new2"), slate(_stand_in(either, "new2"))
    assert [(one.item_id, one.score, one.sources) for one in ours.items] == [
        (one.item_id, one.score, one.sources) for one in theirs.items
    ]
    asked = ["i3", "i7", "i22", "new2"]
    ranked = [
        either.rank(RankRequest(session=Session(recent=[item]), items=asked), _around()).items
        for item in ("new2", _stand_in(either, "new2"))
    ]
    assert ranked[0] == ranked[1]


def test_what_was_done_with_it_counts_as_it_would_with_its_stand_in(ranked_content_bundle: Path) -> None:
    recommender = _prepared(ranked_content_bundle)

    def query(item: str, kind: str) -> tuple[float, ...]:
        around = _around(profile=_did(item, kind))
        found = recommender.query(RecommendRequest(anonymous_id="a", session=Session(recent=["i1"])), around)
        assert found is not None
        return tuple(found.tolist())

    kinds = ("view", "purchase")
    ours = [query("new2", kind) for kind in kinds]
    assert ours == [query(_stand_in(recommender, "new2"), kind) for kind in kinds]
    assert ours[0] != ours[1], "else the model would not tell actions apart"


def test_the_stand_in_itself_was_not_seen_and_the_new_item_was(recommender: Recommender) -> None:
    for told, around in (
        ({"session": Session(recent=["new2"])}, _around()),
        ({"anonymous_id": "a"}, _around(profile=_did("new2"))),
    ):
        slate = recommender.recommend(RecommendRequest.model_validate({"k": 54, **told}), around)
        assert _stand_in(recommender, "new2") in _ids(slate)
        assert "new2" not in _ids(slate)


def test_reasons_name_the_new_item_with_how_near_it_is_and_never_what_followed_its_stand_in(
    either: Recommender,
) -> None:
    slate = either.recommend(RecommendRequest(session=Session(recent=["new2"]), k=20), _around())
    reasons = [(item.item_id, one) for item in slate.items for one in item.reasons if one.code != "popular"]
    assert {(one.code, one.item_id) for _, one in reasons} == {("similar_to", "new2")}
    new, vectors = _new(either), either.runtime.item_vectors
    own = new.vectors[new.places["new2"]][None]
    for item, one in reasons:
        row = either.runtime.items.row(item)
        vector = vectors[row][None] if row else new.vectors[new.places[item]][None]
        assert one.weight == pytest.approx(float(cosines(vector, own)[0, 0]), abs=1e-3)


def test_when_the_model_fails_co_visitation_reads_the_stand_in(recommender: Recommender) -> None:
    runtime = replace(recommender.runtime, encoder=BrokenEncoder())
    broken = Recommender(runtime, PipelineSettings(), now=lambda: NOW)
    broken.prepare(STATE)

    def slate(item: str) -> SlateResponse:
        return broken.recommend(RecommendRequest(session=Session(recent=[item]), exclude_seen=False, k=5), _around())

    ours, theirs = slate("new1"), slate(_stand_in(broken, "new1"))
    assert ours.degraded.reasons == theirs.degraded.reasons == ["sequence_failed"]
    assert [(one.item_id, one.score) for one in ours.items] == [(one.item_id, one.score) for one in theirs.items]


def test_an_item_that_nobody_knows_is_still_unknown(recommender: Recommender) -> None:
    slate = recommender.recommend(RecommendRequest(session=Session(recent=["new2", "nobody"]), k=5), _around())
    assert slate.degraded.reasons == ["unknown_items"]
    assert {category(int(item.removeprefix("i"))) for item in _ids(slate)} == {"c2"}
    without = recommender.recommend(RecommendRequest(session=Session(recent=["new2"]), k=5))
    assert without.degraded.reasons == ["unknown_items"], "in a state of the catalogue that has it not"
    assert {source for item in without.items for source in item.sources} == {"popular"}


def test_similar_answers_for_it_by_its_own_vector(recommender: Recommender) -> None:
    slate = recommender.similar(SimilarRequest(item_id="new3", k=5), _around())
    new = _new(recommender)
    closeness = cosines(recommender.runtime.item_vectors, new.vectors[new.places["new3"]][None])[:, 0]
    best = (-closeness[1:]).argsort(kind="stable")[:5] + 1
    assert set(_ids(slate)) == {f"i{row}" for row in best}


class Exact:
    """Scans all items."""

    def __init__(self, item_vectors: NDArray[np.float32], *, finds: bool = True) -> None:
        self.item_vectors, self.finds = item_vectors, finds

    def search(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        found = (-(self.item_vectors[1:] @ query)).argsort(kind="stable") + 1
        return found[: count if self.finds else 0]


@pytest.mark.parametrize("finds", [True, False])
@given(seed=st.integers(0, 1_000))
def test_the_stand_in_is_the_nearest_by_cosine(finds: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sealed, vectors = (rng.normal(size=(count, 6)).astype(np.float32) for count in (61, 9))
    sealed[0] = 0
    if finds:  # of unit vectors the index proposes the nearest
        sealed[1:] /= np.linalg.norm(sealed[1:], axis=1, keepdims=True)
    expected = cosines(sealed[1:], vectors).argmax(axis=0) + 1
    found = StandIns(Exact(sealed, finds=finds), sealed)(vectors)
    assert (found.dtype.name, found.tolist()) == ("int64", expected.tolist())


def test_long_vectors_do_not_stand_in_for_what_they_only_outweigh() -> None:
    sealed = np.array([[0, 0], [9, 9], [1, 0], [1, 0]], dtype=np.float32)
    assert len(sealed) <= PROPOSED
    assert StandIns(Exact(sealed), sealed)(np.array([[2, 0]], dtype=np.float32)).tolist() == [2], "the smaller row"


def test_an_item_of_the_catalogue_that_it_equals_stands_in_for_it(recommender: Recommender) -> None:
    rows = (47, 48, 49, 50)  # in the bundle, by their content alone
    twins = [ItemChange(f"twin{row}", row, False, True, described(row)) for row in rows]
    state = NO_CHANGES.with_more(twins)
    recommender.prepare(state)
    new = recommender.new_items(state)
    assert new is not None
    assert {new.ids[place]: int(row) for place, row in enumerate(new.stand_ins)} == {f"twin{row}": row for row in rows}


def test_without_new_items_a_history_is_read_as_it_is(recommender: Recommender) -> None:
    history = np.array([3, NUM_ITEMS, 7], dtype=np.int64)
    assert rows_to_read(None, history) is history
    new = _new(recommender)
    read = rows_to_read(new, np.append(history, new.first + 1))
    assert read.tolist() == [*history.tolist(), int(new.stand_ins[1])]
    assert history.tolist() == [3, NUM_ITEMS, 7]
