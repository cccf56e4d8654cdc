"""Is a bundle worse than the one before it? Three figures per bundle, and the rule that sends it back.

The figures are taken where answers are made, so they cost a clock and an append per request, and no other process is
asked. Every replica watches its own; the first one to see a breach takes the bundle out for all of them.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

_KEPT = 2_000


class GuardSettings(BaseModel):
    """When a newly activated bundle is taken out again; a share is one of the answers since it was activated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    watch_s: float = Field(default=60.0, ge=0, le=86_400, description="how long a new bundle is watched, seconds")
    min_answers: int = Field(default=50, ge=1, le=_KEPT, description="answers seen before anything is concluded")
    max_failed_rise: float = Field(default=0.02, ge=0, le=1, description="rise of the share with a failed stage")
    max_empty_rise: float = Field(default=0.05, ge=0, le=1, description="rise of the share without any item")
    max_latency_ratio: float = Field(default=2.0, ge=1, description="p95 against the bundle before")
    min_latency_rise_ms: float = Field(default=20.0, ge=0, description="a rise below this is noise, whatever its ratio")


class Summary(NamedTuple):
    """What a bundle did lately: answers counted, shares in 0..1, 95th percentile of the time to answer."""

    answers: int
    failed: float
    empty: float
    p95_ms: float


class _Answer(NamedTuple):
    seconds: float
    failed: bool
    empty: bool


class Figures:
    """The newest answers of one bundle in this process. One thread adds, another one may read."""

    def __init__(self) -> None:
        """Start with none."""
        self._answers: deque[_Answer] = deque(maxlen=_KEPT)

    def note(self, seconds: float, *, failed: bool, empty: bool) -> None:
        """Count one answer: how long it took, whether a stage of it failed, whether it had no item."""
        self._answers.append(_Answer(seconds, failed, empty))

    def summary(self) -> Summary:
        """Sum up the newest answers; all zero without any."""
        answers = self._answers.copy()
        if not answers:
            return Summary(0, 0.0, 0.0, 0.0)
        seconds, failed, empty = (np.array(column, dtype=np.float64) for column in zip(*answers, strict=True))
        return Summary(len(answers), float(failed.mean()), float(empty.mean()), float(np.percentile(seconds, 95)) * 1e3)


def breach(before: Summary, after: Summary, guard: GuardSettings) -> str | None:
    """Say in words how a bundle is worse than the one before it allows; None when it is not, or not known yet.

    Args:
        before: figures of the bundle before; without any answer its shares count as 0 and its latency as unknown.
        after: figures of the bundle under watch.
        guard: what is allowed.
    """
    if after.answers < guard.min_answers:
        return None
    for name, was, now, rise in (
        ("failed", before.failed, after.failed, guard.max_failed_rise),
        ("empty", before.empty, after.empty, guard.max_empty_rise),
    ):
        if now > was + rise:
            return f"{now:.1%} of {after.answers} answers {name}, {was:.1%} before; at most {was + rise:.1%} is allowed"
    allowed = max(before.p95_ms * guard.max_latency_ratio, before.p95_ms + guard.min_latency_rise_ms)
    if before.answers >= guard.min_answers and after.p95_ms > allowed:
        return f"p95 of an answer {after.p95_ms:.1f} ms, {before.p95_ms:.1f} before; at most {allowed:.1f} is allowed"
    return None
