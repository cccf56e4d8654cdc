"""Deadlines: what does not fit is skipped and named, what must run runs, and a slow stage gets another chance."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.api import DegradedReason, RecommendRequest
from retrank.serving.draft import Draft
from retrank.serving.guard.breaker import Breaker
from retrank.serving.pipeline import LeftOut, Pipeline, Step
from retrank.serving.stage_times import StageTime
from retrank.serving.stages.left_alone import ONLY_FAILURES, LeftAlone


class Clock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Work:
    """Takes its time and leaves its row in the history; as a score rung it applies while nothing scored."""

    row: int
    seconds: float
    clock: Clock
    step: Step = "retrieve"
    on_failure: DegradedReason | None = None

    def applies(self, draft: Draft) -> bool:
        return self.step != "score" or draft.scores is None

    def run(self, draft: Draft) -> Draft:
        self.clock.now += self.seconds
        draft = draft._replace(history=np.append(draft.history, self.row))
        return draft._replace(scores=np.zeros(1, np.float32)) if self.step == "score" else draft


@dataclass
class Moody:
    """Takes as long as it is told to."""

    clock: Clock
    seconds: float = 0.0
    step: Step = "score"
    on_failure: DegradedReason | None = "ranker_failed"

    def applies(self, draft: Draft) -> bool:
        return True

    def run(self, draft: Draft) -> Draft:
        self.clock.now += self.seconds
        return draft


def _ladder(clock: Clock) -> Pipeline:
    """Sequence 30 ms; ranker 50 ms, else query score 10 ms, else popularity 1 ms; explain 5 ms; record 2 ms."""
    return Pipeline(
        [
            Work(1, 0.030, clock, on_failure="sequence_failed"),
            Work(2, 0.050, clock, step="score", on_failure="ranker_failed"),
            Work(3, 0.010, clock, step="score", on_failure="query_score_failed"),
            Work(4, 0.001, clock, step="score"),
            Work(5, 0.005, clock, step="explain", on_failure="explain_failed"),
            Work(6, 0.002, clock, step="record", on_failure="record_failed"),
        ],
        clock,
    )


@pytest.mark.parametrize(
    ("budget_s", "ran", "skipped"),
    [
        (1.000, [1, 2, 5, 6], ()),
        (0.088, [1, 2, 5, 6], ()),
        (0.083, [1, 2, 6], ("explain",)),
        (0.060, [1, 3, 5, 6], ("ranker",)),
        (0.034, [1, 4, 6], ("ranker", "query_score", "explain")),
        (0.020, [3, 5, 6], ("sequence", "ranker")),
        (0.000, [4, 6], ("sequence", "ranker", "query_score", "explain")),
    ],
)
def test_what_does_not_fit_is_left_to_the_next_rung(budget_s: float, ran: list[int], skipped: tuple[str, ...]) -> None:
    clock = Clock()
    pipeline = _ladder(clock)
    for budget in (9.0, 0.040, 0.0):  # so that every rung has been timed once
        pipeline.run(Draft(RecommendRequest()), budget)
    done, _ = pipeline.run(Draft(RecommendRequest()), budget_s)
    assert done.history.tolist() == ran
    assert done.skipped == skipped
    assert done.degraded == (("deadline",) if skipped else ())


def test_a_stage_that_was_never_timed_is_tried() -> None:
    clock = Clock()
    done, _ = _ladder(clock).run(Draft(RecommendRequest()), 0.001)
    assert done.history.tolist()[:1] == [1]


def test_a_stage_that_was_slow_once_is_tried_again() -> None:
    clock = Clock()
    pipeline = Pipeline([Work(1, 0.2, clock, on_failure="sequence_failed")], clock)
    pipeline.run(Draft(RecommendRequest()))
    runs = [bool(pipeline.run(Draft(RecommendRequest()), 0.1)[0].history.tolist()) for _ in range(60)]
    assert not runs[0]
    assert any(runs)


@settings(max_examples=20)
@given(seed=st.integers(0, 1_000), scale=st.floats(1e-5, 10.0))
def test_the_running_percentile_settles_near_the_95th(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    time = StageTime()
    for seconds in random.gamma(4.0, scale, 3_000):
        time.took(float(seconds))
    true = float(np.quantile(random.gamma(4.0, scale, 20_000), 0.95))
    assert 0.75 * true < time.usual_s < 1.4 * true


def test_a_stage_that_ends_behind_the_deadline_twice_in_a_row_is_left_out_and_tried_again_later() -> None:
    clock, took = Clock(), []
    stage = Moody(clock)
    pipeline = Pipeline([stage], clock)
    for stage.seconds in [0.001] * 50 + [0.25] * 60:
        before = clock.now
        pipeline.run(Draft(RecommendRequest()), 0.1)
        took.append(clock.now - before)
    late = [seconds > 0.1 for seconds in took[50:]]
    assert late[:3] == [True, True, False]
    assert 2 < sum(late) <= 4


def test_one_run_behind_the_deadline_is_forgiven() -> None:
    time = StageTime()
    for _ in range(50):
        time.took(0.001)
    time.took(0.25, late=True)
    assert time.usual_s < 0.002
    time.took(0.001)
    time.took(0.25, late=True)
    assert time.usual_s < 0.002
    time.took(0.25, late=True)
    assert time.usual_s == 0.25


def test_callers_with_a_deadline_that_nobody_can_keep_teach_nothing_about_stages() -> None:
    """What began behind the deadline, or cannot be left out, is not late by its own fault."""
    clock = Clock()
    first, slow = Moody(clock, 0.002, "retrieve", "covisit_failed"), Moody(clock, 0.002, on_failure=None)
    pipeline = Pipeline([first, slow], clock)
    for slow.seconds in [0.002] * 50 + [0.05] + [0.002] * 5:
        pipeline.run(Draft(RecommendRequest()), 0.001)
    assert pipeline.run(Draft(RecommendRequest()), 0.01).draft.skipped == ()


@dataclass
class Failing(Moody):
    """Takes its time and fails, unless it is well."""

    well: bool = False

    def run(self, draft: Draft) -> Draft:
        draft = super().run(draft)
        if self.well:
            return draft
        raise RuntimeError("the graph gave up")


@pytest.mark.parametrize("behind_a_breaker", [False, True])
def test_a_stage_that_fails_behind_the_deadline_is_left_out_too(behind_a_breaker: bool) -> None:
    clock = Clock()
    failing, late = Failing(clock, 1.0), 0
    stage = LeftAlone(failing, Breaker(ONLY_FAILURES, clock), clock) if behind_a_breaker else failing
    pipeline = Pipeline([stage], clock)
    for _ in range(200):
        before = clock.now
        pipeline.run(Draft(RecommendRequest()), 0.1)
        late += clock.now - before > 0.1
        clock.now += 0.01
    assert 1 <= late <= 2


def test_a_stage_that_fails_at_once_is_not_thought_to_be_quick() -> None:
    clock = Clock()
    stage = Failing(clock, 0.02, well=True)
    pipeline = Pipeline([stage], clock)
    pipeline.run(Draft(RecommendRequest()), 1.0)
    stage.well = False
    for stage.seconds in [0.0] * 500:
        assert pipeline.run(Draft(RecommendRequest()), 1.0).draft.degraded == ("ranker_failed",)
    assert pipeline.run(Draft(RecommendRequest()), 0.01).draft.skipped == ("ranker",)


@dataclass
class Refusing(Moody):
    """Does not run while it is told not to."""

    left_out: bool = False

    def run(self, draft: Draft) -> Draft:
        if self.left_out:
            raise LeftOut
        return super().run(draft)


def test_what_was_left_alone_is_not_thought_to_be_quick(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    stage = Refusing(clock, 0.02)
    pipeline = Pipeline([stage], clock)
    for stage.left_out in [False] * 20 + [True] * 500:
        found = pipeline.run(Draft(RecommendRequest()), 1.0).draft
    assert found.degraded == ("ranker_failed",)
    assert caplog.text == ""
    stage.left_out = False
    assert pipeline.run(Draft(RecommendRequest()), 0.01).draft.skipped == ("ranker",)
