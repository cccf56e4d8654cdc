"""A request is answered by exactly one bundle, and what nobody uses is let go."""

import gc
import threading
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swap_world import names_of

from retrank.contract.api import RecommendRequest
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.holder import Holder, Serving, share
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service


def _open(root: Path, letter: str) -> Recommender:
    return Recommender.open(root / names_of(root)["abc".index(letter)])


def test_the_split_is_the_same_in_every_process_and_version() -> None:
    assert [round(share(key, "salt"), 6) for key in ("u1", "u2", "")] == [
        0.206712,
        0.685951,
        0.660327,
    ]  # of version 0.1


@given(st.text(max_size=50), st.text(max_size=100))
def test_a_share_lies_in_the_unit_interval_for_any_key_and_salt(key: str, salt: str) -> None:
    assert 0.0 <= share(key, salt) < 1.0


@pytest.mark.parametrize("percent", [1.0, 10.0, 50.0, 99.0])
def test_the_split_is_within_binomial_bounds(percent: float) -> None:
    keys, odds = 20_000, percent / 100
    hits = sum(share(f"user {number}", "salt") * 100 < percent for number in range(keys))
    assert abs(hits - keys * odds) <= 4 * (keys * odds * (1 - odds)) ** 0.5


def test_two_canaries_split_independently() -> None:
    first = {number for number in range(4_000) if share(str(number), "one") < 0.5}
    second = {number for number in range(4_000) if share(str(number), "two") < 0.5}
    assert abs(len(first & second) - 1_000) < 150


def test_a_canary_answers_its_share_of_the_users_and_always_the_same_ones(three_bundles: Path) -> None:
    a, b = _open(three_bundles, "a"), _open(three_bundles, "b")
    serving = Serving(a, b, percent=30, salt="s")
    split = {f"u{number}": serving.pick(f"u{number}") for number in range(200)}
    assert {picked.variant: picked.recommender for picked in split.values()} == {"active": a, "canary": b}
    assert all(serving.pick(key) == picked for key, picked in split.items())
    assert Serving(a, b, percent=100).pick("anyone").variant == "canary"


def test_requests_under_way_during_swaps_see_exactly_one_bundle(three_bundles: Path) -> None:
    a, b = _open(three_bundles, "a"), _open(three_bundles, "b")
    holder = Holder(Serving(a))
    front = Front(holder, clock=lambda: 0.0)
    service = Service(front.pick, Backing.none(), watch=front)
    letter = {a.bundle.id: "a", b.bundle.id: "b"}
    stop, mixed, seen = threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            answer = service.recommend(RecommendRequest(session={"recent": ["a1", "b1"]}))  # type: ignore[arg-type]
            seen.add(answer.bundle.id)
            if {item.item_id[0] for item in answer.items} != {letter[answer.bundle.id]}:
                mixed.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(200):
        holder.serve(Serving((a, b)[turn % 2]))
        stop.wait(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert mixed == []
    assert seen == set(letter)


def test_a_bundle_is_let_go_with_its_last_request(three_bundles: Path) -> None:
    holder = Holder(Serving(_open(three_bundles, "a")))
    under_way = holder.pick("key")
    gone = weakref.ref(under_way.recommender.runtime)
    gc.disable()  # reference counts alone must do
    try:
        holder.serve(Serving(_open(three_bundles, "b")))
        assert gone() is not None
        del under_way
        assert gone() is None
    finally:
        gc.enable()
