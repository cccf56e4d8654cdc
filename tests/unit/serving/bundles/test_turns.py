"""Replicas of one host load one after the other, and gently; nobody waits, neither for its turn nor for a load."""

import multiprocessing
import signal
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from retrank.contract.bundle import GOLDEN, verify
from retrank.contract.golden import best_scores, read_golden
from retrank.serving.bundles.pace import LOOK_S, MOST_REST, REST, Pace
from retrank.serving.bundles.turn import Turn
from retrank.serving.recommender import Recommender

_BOUND_S = 30.0


def _turn(path: Path, wait_s: float = 60.0, now: float = 0.0) -> Turn:
    return Turn(path, wait_s=wait_s, clock=lambda: now)


def test_a_turn_that_nobody_has_is_taken_at_once_and_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        with _turn(tmp_path / "lock").taken(0.0) as mine:
            assert mine


def test_who_finds_another_one_loading_is_told_at_once_and_may_when_the_turn_is_given_back(tmp_path: Path) -> None:
    held = ExitStack()
    held.enter_context(_turn(tmp_path / "lock").taken(0.0))
    for _ in range(3):
        with _turn(tmp_path / "lock").taken(0.0) as mine:
            assert not mine
    held.close()
    with _turn(tmp_path / "lock").taken(0.0) as mine:
        assert mine


def test_a_turn_is_given_back_when_a_load_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), _turn(tmp_path / "lock").taken(0.0):
        _ = 1 // 0
    with _turn(tmp_path / "lock").taken(0.0) as mine:
        assert mine


def test_who_asked_for_long_enough_loads_beside_the_other_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    with _turn(path).taken(0.0):
        with _turn(path, wait_s=3.0, now=12.9).taken(10.0) as mine:
            assert not mine
        with _turn(path, wait_s=3.0, now=13.0).taken(10.0) as mine:
            assert mine
    assert "another replica loads for more than 3 s" in caplog.text


def test_without_a_place_for_the_lock_a_replica_loads_at_once_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _turn(tmp_path / "no such folder" / "lock").taken(0.0) as mine:
        assert mine
    assert "loading without waiting" in caplog.text


def _hold(path: Path, held: Event) -> None:
    with _turn(path).taken(0.0):
        held.set()
        signal.pause()


def test_the_turn_of_a_replica_that_was_killed_is_free(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    holder = spawn.Process(target=_hold, args=(tmp_path / "lock", held), daemon=True)
    holder.start()
    try:
        assert held.wait(_BOUND_S)
        with _turn(tmp_path / "lock").taken(0.0) as mine:
            assert not mine
    finally:
        holder.kill()
        holder.join(_BOUND_S)
    with _turn(tmp_path / "lock").taken(0.0) as mine:
        assert mine


def test_a_rest_is_a_multiple_of_the_work_before_it_and_of_nothing_else() -> None:
    slept: list[float] = []
    busy = iter([10.0, 10.002, 10.002, 10.5, 10.5])
    rest = Pace(slept.append, lambda: next(busy)).begin()
    rest()
    assert slept == pytest.approx([0.002 * REST])
    rest()
    assert sum(slept[1:]) == pytest.approx(0.498 * REST)


def test_a_rest_goes_on_until_nobody_waits_for_an_answer() -> None:
    slept: list[float] = []
    calm = iter([False, False, False, True])
    busy = iter([10.0, 10.002, 10.002])
    Pace(slept.append, lambda: next(busy), lambda: next(calm)).begin()()
    assert slept == pytest.approx([0.002 * REST, LOOK_S, LOOK_S, LOOK_S])


@pytest.mark.parametrize("worked", [0.0, 0.00001, 0.0023, 0.5])
def test_a_rest_ends_even_where_somebody_always_waits(worked: float) -> None:
    slept: list[float] = []
    busy = iter([10.0, 10.0 + worked, 10.0])
    Pace(slept.append, lambda: next(busy), lambda: False).begin()()
    assert sum(slept) == pytest.approx(MOST_REST * worked)
    assert sum(one for one in slept if one <= LOOK_S) >= 0.99 * (MOST_REST - REST) * worked


def test_exact_search_rests_after_every_block_and_finds_the_same() -> None:
    rng, rests = np.random.default_rng(0), []
    vectors = rng.normal(size=(20_001, 4)).astype(np.float32)
    queries = rng.normal(size=(3, 4)).astype(np.float32)
    found = best_scores(queries, vectors, 5, lambda: rests.append(1))
    assert len(rests) == 5
    np.testing.assert_allclose(found, -np.sort(-(queries @ vectors[1:].T))[:, :5], rtol=1e-5)


def test_a_bundle_is_verified_opened_and_proven_in_many_pieces(tiny_bundle: Path) -> None:
    rests: list[int] = []

    def rest() -> None:
        rests.append(1)

    bundle = verify(tiny_bundle, rest)
    assert len(rests) >= len(bundle.manifest.files) - sum(one.size == 0 for one in bundle.manifest.files.values())
    verified = len(rests)
    Recommender.over(bundle, rest=rest)
    assert len(rests) - verified > len(read_golden(bundle.path(GOLDEN)))


def test_a_long_rest_ends_at_once_when_the_work_is_not_wanted_any_more() -> None:
    slept: list[float] = []

    def look() -> None:
        if sum(slept) > 1.0:
            raise InterruptedError

    busy = iter([0.0, 1.0])
    with pytest.raises(InterruptedError):
        Pace(slept.append, lambda: next(busy)).begin(look)()
    assert sum(slept) < 1.2  # of seven
