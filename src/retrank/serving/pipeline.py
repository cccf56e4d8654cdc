"""Run the stages of a request: order, timing, deadline, error isolation and fallback, once for all of them.

    hydrate ▸ retrieve ▸ filter ▸ score ▸ rerank ▸ explain ▸ record

Several stages may serve one step. Each says whether it applies to the draft at hand, so a ladder of fallbacks is
simply their order: a rung applies when those before it left something to do. A stage that may fail names the reason
that goes into the answer; the draft then passes on as it was. An error in any other stage is the caller's.

Stages that may fail may also be left out: one is skipped when what is left of the deadline is less than it usually
takes together with the stages that cannot be left out after it. The next rung then answers, and the draft says so.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from retrank.contract.api import DegradedReason
from retrank.serving.draft import Draft
from retrank.serving.stage_times import StageTime

Step = Literal["hydrate", "retrieve", "filter", "score", "rerank", "explain", "record"]
STEPS: tuple[Step, ...] = ("hydrate", "retrieve", "filter", "score", "rerank", "explain", "record")
_NEVER_SKIPPED = frozenset({"hydrate", "filter", "record"})
Clock = Callable[[], float]
_log = logging.getLogger(__name__)


class Stage(Protocol):
    """One piece of work on a draft."""

    @property
    def step(self) -> Step:
        """The step it belongs to; its time is booked there."""
        ...

    @property
    def on_failure(self) -> DegradedReason | None:
        """What the answer lacks when this stage fails; None when there is no answer without it."""
        ...

    def applies(self, draft: Draft) -> bool:
        """Tell whether there is something to do."""
        ...

    def run(self, draft: Draft) -> Draft:
        """Return the draft one step further."""
        ...


class Outcome(NamedTuple):
    """A finished draft, and milliseconds per step with their `total`."""

    draft: Draft
    took_ms: dict[str, float]


class Pipeline:
    """A fixed order of stages; holds no state of a request, so one object answers any number of them."""

    def __init__(self, stages: Sequence[Stage], clock: Clock) -> None:
        """Keep the stages.

        Args:
            stages: in the order in which they run; steps must not go backwards.
            clock: seconds, monotonic.
        """
        order = [STEPS.index(stage.step) for stage in stages]
        assert order == sorted(order), f"stages out of order: {[stage.step for stage in stages]}"
        self._stages = tuple((stage, StageTime(), _optional(stage)) for stage in stages)
        self._nothing_took_ms: dict[str, float] = dict.fromkeys((stage.step for stage in stages), 0.0)
        self._clock = clock

    def run(self, draft: Draft, budget_s: float = math.inf) -> Outcome:
        """Take a draft through every stage that applies.

        Args:
            draft: what was asked.
            budget_s: seconds it may take from now; optional stages that do not fit are skipped.
        """
        took_ms = self._nothing_took_ms.copy()
        started = before = self._clock()
        deadline = started + budget_s
        draft = draft._replace(due=deadline)
        for (stage, time, optional), must_follow_s in zip(self._stages, self._must_follow_s(), strict=True):
            if not stage.applies(draft):
                continue
            if optional and before + time.usual_s + must_follow_s > deadline:
                time.skipped()
                draft = draft.skip(stage_name(stage))
                continue
            draft, ended = _isolated(stage, draft)
            now = self._clock()
            late = optional and before <= deadline < now
            if ended == "done" or (ended == "failed" and late):  # a quick failure says nothing of what the work takes
                time.took(now - before, late=late)
            took_ms[stage.step] += (now - before) * 1e3
            before = now
        took_ms["total"] = (before - started) * 1e3
        return Outcome(draft, {step: round(spent, 3) for step, spent in took_ms.items()})

    def _must_follow_s(self) -> list[float]:
        """Return for each stage how long those after it that cannot be left out usually take."""
        following, total = [], 0.0
        for _, time, optional in reversed(self._stages):
            following.append(total)
            if not optional:
                total += time.usual_s
        return following[::-1]


def stage_name(stage: Stage) -> str:
    """Return the name of an optional stage in answers: `sequence` for one that fails with `sequence_failed`."""
    return (stage.on_failure or stage.step).removesuffix("_failed")


def _optional(stage: Stage) -> bool:
    return stage.on_failure is not None and stage.step not in _NEVER_SKIPPED


class LeftOut(Exception):  # noqa: N818  (a decision, not a mistake)
    """Raised by a stage that does not run for a while, because it failed too often."""


def _isolated(stage: Stage, draft: Draft) -> tuple[Draft, Literal["done", "failed", "left out"]]:
    """Return the draft one step further, and what the stage did."""
    try:
        return stage.run(draft), "done"
    except Exception as error:
        if stage.on_failure is None:
            raise
        if isinstance(error, LeftOut):
            return draft.without(stage.on_failure), "left out"
        _log.exception("stage %s failed, the answer goes on without it", stage_name(stage))
        return draft.without(stage.on_failure), "failed"
