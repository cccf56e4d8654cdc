"""Is a bundle worse than the one before it? Three figures per bundle, and the rule that sends it back.

The figures are taken where answers are made, so they cost a clock and an append per request, and no other process is
asked. Every replica watches its own; the first one to see a breach takes the bundle out for all of them.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from retrank.serving.swap_settings import MAX_WATCHED, WatchSettings


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
        self._answers: deque[_Answer] = deque(maxlen=MAX_WATCHED)

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


def breach(before: Summary, after: Summary, limits: WatchSettings) -> str | None:
    """Say in words how a bundle is worse than the one before it allows; None when it is not, or not known yet.

    Args:
        before: figures of the bundle before; without any answer its shares count as 0 and its latency as unknown.
        after: figures of the bundle under watch.
        limits: what is allowed.
    """
    if after.answers < limits.min_answers:
        return None
    for name, was, now, rise in (
        ("failed", before.failed, after.failed, limits.max_failed_rise),
        ("empty", before.empty, after.empty, limits.max_empty_rise),
    ):
        if now > was + rise:
            return f"{now:.1%} of {after.answers} answers {name}, {was:.1%} before; at most {was + rise:.1%} is allowed"
    allowed = max(before.p95_ms * limits.max_latency_ratio, before.p95_ms + limits.min_latency_rise_ms)
    if before.answers >= limits.min_answers and after.p95_ms > allowed:
        return f"p95 of an answer {after.p95_ms:.1f} ms, {before.p95_ms:.1f} before; at most {allowed:.1f} is allowed"
    return None
