"""What the runner promises whatever the stages are: order, timing, isolation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.api import DegradedReason, RecommendRequest, Source
from retrank.serving.draft import SOURCES, Candidates, Draft
from retrank.serving.pipeline import Pipeline, Step

DRAFT = Draft(RecommendRequest())


@dataclass(frozen=True)
class Add:
    """Adds one item row to the history, unless told to fail or to step aside."""

    row: int
    step: Step = "retrieve"
    on_failure: DegradedReason | None = None
    fails: bool = False
    active: bool = True

    def applies(self, draft: Draft) -> bool:
        del draft
        return self.active

    def run(self, draft: Draft) -> Draft:
        if self.fails:
            raise OSError("the disk is gone")
        return draft._replace(history=np.append(draft.history, self.row))


def _clock() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 0.5


def _run(*stages: Add) -> tuple[list[int], tuple[str, ...], dict[str, float]]:
    ticks = _clock()
    done, took_ms = Pipeline(stages, clock=lambda: next(ticks)).run(DRAFT)
    return done.history.tolist(), done.degraded, took_ms


def test_stages_run_in_order_and_their_time_is_booked_on_their_step() -> None:
    rows, degraded, took_ms = _run(Add(1), Add(2), Add(3, step="score"))
    assert (rows, degraded) == ([1, 2, 3], ())
    assert took_ms == {"retrieve": 1000.0, "score": 500.0, "total": 1500.0}


def test_a_stage_that_does_not_apply_is_passed_over() -> None:
    assert _run(Add(1), Add(2, active=False), Add(3))[0] == [1, 3]


def test_a_failing_stage_is_named_in_the_answer_and_the_next_ones_still_run(caplog: pytest.LogCaptureFixture) -> None:
    rows, degraded, _ = _run(Add(1), Add(2, fails=True, on_failure="covisit_failed"), Add(3))
    assert (rows, degraded) == ([1, 3], ("covisit_failed",))
    assert "the disk is gone" in caplog.text


def test_a_failing_stage_without_which_there_is_no_answer_fails_the_request() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        _run(Add(1), Add(2, fails=True))


def test_steps_cannot_go_backwards() -> None:
    with pytest.raises(AssertionError, match="out of order"):
        _run(Add(1, step="score"), Add(2, step="retrieve"))


def test_candidates_of_several_sources_are_united() -> None:
    both = Candidates.none().add(np.array([5, 2, 0, -1]), "sequence").add(np.array([2, 9]), "popular")
    assert both.rows.tolist() == [2, 5, 9]
    assert both.sources.tolist() == [0b1001, 0b0001, 0b1000]


@given(parts=st.lists(st.tuples(st.sampled_from(SOURCES), st.lists(st.integers(-1, 9), max_size=6)), max_size=5))
def test_uniting_candidates_is_the_plain_loop(parts: list[tuple[Source, list[int]]]) -> None:
    candidates, expected = Candidates.none(), dict[int, int]()
    for source, rows in parts:
        candidates = candidates.add(np.array(rows, dtype=np.int32), source)
        for row in rows:
            if row > 0:
                expected[row] = expected.get(row, 0) | 1 << SOURCES.index(source)
    assert len(candidates) == len(expected)
    assert dict(zip(candidates.rows.tolist(), candidates.sources.tolist(), strict=True)) == expected
    assert candidates.rows.tolist() == sorted(expected)
