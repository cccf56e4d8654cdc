"""Replicas of one host load one after the other, gently, and swap together; nobody waits for ever."""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from retrank.contract.bundle import GOLDEN, verify
from retrank.contract.golden import best_scores, read_golden
from retrank.serving.bundles.pace import REST, Pace
from retrank.serving.bundles.turn import Turn
from retrank.serving.recommender import Recommender

_BOUND_S = 30.0


class Wrist:
    """A clock that only sleeping moves, and what happens after so many seconds."""

    def __init__(self, at: float = 0.0, then: Callable[[], None] = lambda: None) -> None:
        self.now, self._at, self._then = 0.0, at, then

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        if before < self._at <= self.now:
            self._then()


def _turn(path: Path, wrist: Wrist, wait_s: float = 60.0) -> Turn:
    return Turn(path, wait_s=wait_s, clock=wrist, sleep=wrist.sleep)


def test_a_turn_that_nobody_has_is_taken_at_once_and_again_and_again(tmp_path: Path) -> None:
    wrist = Wrist()
    for _ in range(3):
        with _turn(tmp_path / "lock", wrist).taken():
            pass
    assert wrist.now == 0.0


def test_the_next_one_waits_until_the_turn_is_given_back(tmp_path: Path) -> None:
    held = ExitStack()
    held.enter_context(_turn(tmp_path / "lock", Wrist()).taken())
    wrist = Wrist(at=2.0, then=held.close)
    with _turn(tmp_path / "lock", wrist).taken():
        assert wrist.now == pytest.approx(2.0, abs=0.1)


def test_a_turn_is_given_back_when_a_load_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), _turn(tmp_path / "lock", Wrist()).taken():
        _ = 1 // 0
    wrist = Wrist()
    with _turn(tmp_path / "lock", wrist).taken():
        assert wrist.now == 0.0


def test_who_waited_long_enough_loads_beside_the_other_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrist = Wrist()
    with _turn(tmp_path / "lock", Wrist()).taken(), _turn(tmp_path / "lock", wrist, wait_s=3.0).taken():
        assert wrist.now == pytest.approx(3.0, abs=0.1)
    assert "another replica loads for more than 3 s" in caplog.text


def test_without_a_place_for_the_lock_a_replica_loads_at_once_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrist = Wrist()
    with _turn(tmp_path / "no such folder" / "lock", wrist).taken():
        assert wrist.now == 0.0
    assert "loading without waiting" in caplog.text


def _hold(path: Path, held: Event) -> None:
    with Turn(path, wait_s=0.0, clock=lambda: 0.0, sleep=lambda _: None).taken():
        held.set()
        signal.pause()


def test_the_turn_of_a_replica_that_was_killed_is_free(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    holder = spawn.Process(target=_hold, args=(tmp_path / "lock", held), daemon=True)
    holder.start()
    try:
        assert held.wait(_BOUND_S)

        def kill() -> None:
            holder.kill()
            holder.join(_BOUND_S)

        wrist = Wrist(at=1.0, then=kill)
        with _turn(tmp_path / "lock", wrist).taken():
            assert wrist.now == pytest.approx(1.0, abs=0.1)
    finally:
        holder.kill()
        holder.join(_BOUND_S)


def test_a_rest_is_a_multiple_of_the_work_before_it_and_of_nothing_else() -> None:
    slept: list[float] = []
    busy = iter([10.0, 10.002, 10.002, 10.5, 10.5])
    rest = Pace(slept.append, lambda: next(busy)).begin()
    rest()
    rest()
    assert slept == pytest.approx([0.002 * REST, 0.498 * REST])


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
