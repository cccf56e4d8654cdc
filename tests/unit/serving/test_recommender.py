"""Answers of the recommender in process, on a bundle of 50 items and 20 users."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_parts import BrokenEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.actions import Actions, action_facts
from retrank.contract.api import (
    Degraded,
    Reason,
    RecommendRequest,
    Session,
    SimilarRequest,
    SlateItem,
    SlateResponse,
)
from retrank.contract.errors import ChecksumError
from retrank.contract.golden import read_golden
from retrank.contract.sequences import Sequences
from retrank.contract.slate_options import Diversity, SeenPolicy
from retrank.contract.vocab import Vocab
from retrank.policy.covisit import Successors
from retrank.serving.draft import Draft
from retrank.serving.recommender import Recommender
from retrank.serving.runtime import ItemIndex
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages.hydrate import Hydrate

NUM_ITEMS = 50
ITEMS = [f"i{row}" for row in range(1, NUM_ITEMS + 1)]
STEPS = {"hydrate", "retrieve", "filter", "score", "rerank", "explain", "record", "total"}


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _ask(recommender: Recommender, **fields: Any) -> SlateResponse:
    recent = fields.pop("recent", [])
    return recommender.recommend(RecommendRequest(session=Session(recent=recent), **fields))


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _history(recommender: Recommender, user_id: str) -> list[str]:
    runtime = recommender.runtime
    return [runtime.items.id(int(row)) for row in runtime.histories.of(runtime.users.row(user_id) - 1)]


def test_a_known_user_gets_unseen_items_best_first(recommender: Recommender) -> None:
    slate = _ask(recommender, user_id="u1", k=10)
    assert len(slate.items) == 10
    assert set(_ids(slate)).isdisjoint(_history(recommender, "u1"))
    assert [item.rank for item in slate.items] == list(range(1, 11))
    scores = [item.score for item in slate.items]
    assert scores == sorted(scores, reverse=True)
    assert slate.degraded.reasons == []
    assert set(slate.took_ms) == STEPS


def test_items_come_with_what_a_person_recognises_them_by(recommender: Recommender) -> None:
    item = _ask(recommender, recent=["i1"], k=1).items[0]
    row = int(item.item_id[1:])
    assert item.attributes == {"title": f"Thing number {row}", "price": round(1.5 + row / 4, 2)}


def test_an_answer_checked_in_one_go_is_the_one_made_model_by_model(recommender: Recommender) -> None:
    slate = _ask(recommender, user_id="u1", recent=["i1", "no such item"], k=10, diversity=Diversity(mode="mmr"))
    assert any(item.reasons for item in slate.items)
    by_hand = SlateResponse(
        request_id=slate.request_id,
        items=[
            SlateItem(
                item_id=item.item_id,
                rank=item.rank,
                score=item.score,
                sources=list(item.sources),
                reasons=[Reason(code=one.code, item_id=one.item_id, weight=one.weight) for one in item.reasons],
                attributes=dict(item.attributes),
                propensity=item.propensity,
            )
            for item in slate.items
        ],
        bundle=recommender.bundle,
        degraded=Degraded(is_degraded=True, reasons=["unknown_items"]),
        took_ms=slate.took_ms,
    )
    assert slate == by_hand
    assert slate.model_dump_json() == by_hand.model_dump_json()
    assert SlateResponse.model_validate_json(slate.model_dump_json()) == slate


def test_the_stored_history_and_a_session_with_the_same_events_get_the_same_slate(recommender: Recommender) -> None:
    stored = _ask(recommender, user_id="u1", k=NUM_ITEMS)
    anonymous = _ask(recommender, recent=_history(recommender, "u1"), k=NUM_ITEMS)
    assert stored.items == anonymous.items


def test_the_session_continues_the_stored_history(recommender: Recommender) -> None:
    new = next(item for item in ITEMS if item not in _history(recommender, "u1"))
    together = _ask(recommender, user_id="u1", recent=[new], k=5)
    by_hand = _ask(recommender, recent=[*_history(recommender, "u1"), new], k=5)
    assert together.items == by_hand.items


def test_nobody_gets_what_is_popular_and_that_is_not_degraded(recommender: Recommender) -> None:
    slate = _ask(recommender, k=5)
    popular = [recommender.runtime.items.id(int(row)) for row in recommender.runtime.popular_items]
    assert set(_ids(slate)) <= set(popular[:15])
    assert all(item.sources == ["popular"] for item in slate.items)
    assert slate.items[0].score == 1.0
    assert not slate.degraded.is_degraded
    assert _ids(recommender.popular(5)) == _ids(slate)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"user_id": "stranger"}, ["unknown_user"]),
        ({"user_id": "stranger", "recent": ["i1"]}, ["unknown_user"]),
        ({"recent": ["no such item"]}, ["unknown_items"]),
        ({"recent": ["no such item", "i1"]}, ["unknown_items"]),
        ({"user_id": "stranger", "recent": ["?"]}, ["unknown_items", "unknown_user"]),
        ({"user_id": "u1", "exclude_items": ["no such item"]}, []),
    ],
)
def test_unknown_ids_still_get_a_full_slate(
    recommender: Recommender, fields: dict[str, Any], reasons: list[str]
) -> None:
    slate = _ask(recommender, k=10, **fields)
    assert len(slate.items) == 10
    assert slate.degraded.reasons == reasons
    assert slate.degraded.is_degraded == bool(reasons)


def test_a_slate_is_full_as_long_as_the_catalogue_allows(recommender: Recommender) -> None:
    left = _ask(recommender, exclude_items=ITEMS[:-7], k=10)
    assert sorted(_ids(left)) == sorted(ITEMS[-7:])
    assert left.degraded.reasons == ["catalogue_exhausted"]
    assert _ask(recommender, exclude_items=ITEMS).items == []


def test_seen_items_come_back_when_they_are_wanted(recommender: Recommender) -> None:
    slate = _ask(recommender, user_id="u1", exclude_seen=False, k=NUM_ITEMS)
    assert sorted(_ids(slate)) == sorted(ITEMS)


def test_reasons_rest_on_the_history_and_can_be_switched_off(recommender: Recommender) -> None:
    slate = _ask(recommender, recent=["i1", "i2"], k=20)
    named = {reason.item_id for item in slate.items for reason in item.reasons if reason.code != "popular"}
    assert named <= {"i1", "i2"}
    assert named
    assert all(0 <= reason.weight <= 1 for item in slate.items for reason in item.reasons)
    assert not any(item.reasons for item in _ask(recommender, recent=["i1"], explain=False).items)


def test_similar_items_leave_out_the_item_itself(recommender: Recommender) -> None:
    slate = recommender.similar(SimilarRequest(item_id="i3", k=NUM_ITEMS))
    assert sorted([*_ids(slate), "i3"]) == sorted(ITEMS)
    vectors = recommender.runtime.item_vectors
    closest = np.argsort(-(vectors[1:] @ vectors[3]), kind="stable")[1] + 1
    assert _ids(slate)[0] == f"i{closest}"
    assert slate.items[0].score == pytest.approx(float(vectors[closest] @ vectors[3]), abs=1e-5)


def test_similar_to_an_unknown_item_is_what_is_popular_and_says_so(recommender: Recommender) -> None:
    slate = recommender.similar(SimilarRequest(item_id="nothing", k=5))
    assert _ids(slate) == _ids(recommender.popular(5))
    assert slate.degraded.reasons == ["unknown_items"]
    assert {source for item in slate.items for source in item.sources} == {"popular"}


def test_similar_items_are_nearest_by_angle_however_long_other_vectors_are(recommender: Recommender) -> None:
    vectors = recommender.runtime.item_vectors.copy()
    vectors[20:] *= 100.0  # inner products with these are the largest
    runtime = replace(recommender.runtime, item_vectors=vectors)
    slate = Recommender(runtime, PipelineSettings(num_candidates=5)).similar(SimilarRequest(item_id="i3", k=5))
    direct = vectors[1:] @ vectors[3] / np.linalg.norm(vectors[1:], axis=1)
    assert _ids(slate) == [f"i{row + 1}" for row in np.argsort(-direct, kind="stable") if row != 2][:5]


def test_a_given_request_id_is_kept_and_a_missing_one_made_up(recommender: Recommender) -> None:
    assert _ask(recommender, request_id="mine").request_id == "mine"
    assert len({_ask(recommender).request_id for _ in range(3)}) == 3


def test_slates_agree_with_the_golden_answers(recommender: Recommender) -> None:
    bundle = recommender.runtime.bundle
    for case in read_golden(bundle.path("golden.jsonl")):
        if case.item_rows:
            slate = _ask(recommender, recent=case.item_ids, exclude_seen=False, k=len(case.top_item_ids))
            assert [item.score for item in slate.items] == pytest.approx(case.top_scores, abs=1e-4)


def test_rehearsal_is_not_counted_as_traffic(tiny_bundle: Path) -> None:
    fresh = Recommender.open(tiny_bundle)
    assert fresh.tally.slates == 0
    _ask(fresh, user_id="stranger", k=3)
    assert (fresh.tally.slates, fresh.tally.degraded["unknown_user"]) == (1, 1)
    assert fresh.tally.items_by_source["popular"] == 3


@settings(max_examples=60, deadline=None)
@given(
    user=st.sampled_from([None, "u1", "u7", "stranger"]),
    recent=st.lists(st.sampled_from([*ITEMS, "x", "y"]), max_size=30),
    excluded=st.lists(st.sampled_from([*ITEMS, "x"]), max_size=60),
    k=st.integers(1, 60),
    exclude_seen=st.booleans(),
)
def test_every_slate_keeps_its_promises(
    recommender: Recommender, user: str | None, recent: list[str], excluded: list[str], k: int, exclude_seen: bool
) -> None:
    asked: dict[str, Any] = {"user_id": user, "recent": recent, "exclude_items": excluded, "exclude_seen": exclude_seen}
    slate = _ask(recommender, k=k, **asked)
    known = _history(recommender, user) if user in ("u1", "u7") else []
    hidden = set(excluded) | (set(known + recent) if exclude_seen else set())
    ids = _ids(slate)
    assert len(ids) == len(set(ids)) == min(k, len(set(ITEMS) - hidden))
    assert set(ids).isdisjoint(hidden)
    assert _ask(recommender, k=k, **asked).items == slate.items


def test_the_model_hears_how_long_ago_the_events_of_a_user_were(recommender: Recommender) -> None:
    """Stored events have an age at the time of the request; the session happens now."""
    runtime = recommender.runtime
    times = np.arange(len(runtime.histories.item_rows), dtype=np.int64) * 60_000_000
    histories = replace(runtime.histories, times=times)
    newest = int(times[histories.offsets[7] - 1]) // 1_000_000
    hydrate = Hydrate(
        runtime.users, runtime.items, histories, 0, now=lambda: newest + 30.5, known_actions=runtime.actions
    )
    draft = hydrate.run(Draft(RecommendRequest(user_id="u7", session=Session(recent=["i1", "i2"]))))
    stored = len(draft.history) - 2
    assert draft.ages.tolist() == [30 + 60 * back for back in range(stored - 1, -1, -1)] + [0, 0]


def test_what_was_shown_and_sealed_counts_as_seen_only_if_that_is_asked_for(recommender: Recommender) -> None:
    """A bundle of data that was not told to leave impressions out: of three events the second is one."""
    runtime = recommender.runtime
    histories = Sequences.from_lists([[1, 2, 3]], [[1, 2, 3]], [[1, 2, 1]])
    for names, seen in ((["click", "impression"], [1, 3]), (["click", "view"], [1, 2, 3])):
        actions = Actions(action_facts(names, histories.actions, {}))
        hydrate = Hydrate(Vocab(["u"]), runtime.items, histories, 10, now=lambda: 9.0, known_actions=actions)

        def hidden(hydrate: Hydrate = hydrate, **asked: Any) -> list[int]:
            return sorted(hydrate.run(Draft(RecommendRequest(user_id="u", **asked))).seen.tolist())

        assert hidden() == seen
        assert hidden(seen=SeenPolicy(types=["click", "impression"])) == [1, 2, 3]


class _BrokenIndex(ItemIndex):
    """An index whose file went away."""

    def __init__(self) -> None:
        pass

    def search(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        raise OSError(f"device gone, {count} items of width {len(query)} not found")


@pytest.mark.parametrize("part", [{"encoder": BrokenEncoder()}, {"index": _BrokenIndex()}], ids=["model", "index"])
def test_when_the_model_or_the_index_fails_co_visitation_answers(
    recommender: Recommender, part: dict[str, Any]
) -> None:
    broken = Recommender(replace(recommender.runtime, **part), PipelineSettings())
    items, weights = recommender.runtime.successors
    anchor = int(np.flatnonzero(weights[:, 0] > 0)[0])
    slate = _ask(broken, recent=[f"i{anchor}"], k=10)
    assert slate.degraded.reasons == ["sequence_failed"]
    assert len(slate.items) == 10
    assert slate.items[0].item_id in {f"i{row}" for row in items[anchor][weights[anchor] == weights[anchor, 0]]}
    assert slate.items[0].score == pytest.approx(1.0, abs=1e-3)


def test_when_co_visitation_fails_too_what_is_popular_answers(recommender: Recommender) -> None:
    gone = Successors(np.empty((0, 1), dtype=np.int32), np.empty((0, 1), dtype=np.float32))
    broken = Recommender(replace(recommender.runtime, encoder=BrokenEncoder(), successors=gone), PipelineSettings())
    slate = _ask(broken, recent=["i1"], k=10)
    assert slate.degraded.reasons == ["sequence_failed", "covisit_failed", "covisit_score_failed", "explain_failed"]
    assert [item.sources for item in slate.items] == [["popular"]] * 10


def test_a_flipped_byte_is_refused_at_open(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Recommender.open(tiny_bundle).runtime.bundle
    copy = tmp_path / bundle.bundle_id
    copy.mkdir()
    for path in bundle.directory.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    vectors = bytearray((copy / "item_vectors.npy").read_bytes())
    vectors[-1] ^= 1
    (copy / "item_vectors.npy").write_bytes(vectors)
    with pytest.raises(ChecksumError, match=r"item_vectors\.npy"):
        Recommender.open(copy)
