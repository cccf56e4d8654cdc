"""A breaker in front of one dependency: after too many failures it is left alone for a while, then tried once.

    closed ──half of the last 20 calls failed, or their p95 is over budget──► open
    closed ──those that failed cost 100 ms together: it hangs, and nobody waits for twenty of them──► open
    open ──1 s──► half-open: one call may try, the others fail at once
    half-open ──it worked──► closed     half-open ──it failed or was slow──► open

The caller says how each call ended. A slow answer is used all the same; it only counts against the dependency. A call
during which this process itself stood still for most of the time says nothing against the dependency: it is not
counted, and when it was the one that tried, the next one tries.
"""

from collections import deque
from collections.abc import Callable
from math import ceil, inf

from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.telemetry.facade import CircuitState


def _ignore(state: CircuitState) -> None:
    del state


class Breaker:
    """The state of one dependency. Safe to share between threads: a race costs one call too many, nothing else."""

    def __init__(
        self,
        settings: BreakerSettings,
        clock: Callable[[], float],
        *,
        on_change: Callable[[CircuitState], None] = _ignore,
    ) -> None:
        """Start closed.

        Args:
            settings: window and thresholds.
            clock: monotonic seconds.
            on_change: told every new state.
        """
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._calls: deque[tuple[bool, float]] = deque(maxlen=settings.window)  # failed, seconds
        self._state: CircuitState = "closed"
        self._opened_at = 0.0
        self._tried_at = 0.0
        on_change("closed")

    @property
    def state(self) -> CircuitState:
        """Closed, half-open while a call tries, or open."""
        return self._state

    def allows(self) -> bool:
        """Tell whether a call may be made now; in half-open, to one caller only. `ended` must follow."""
        if self._state == "closed":
            return True
        now = self._clock()
        # A try that never reported its end (its thread died) must not keep the breaker half-open for good.
        since = self._opened_at if self._state == "open" else self._tried_at
        if now - since < self._settings.open_s:
            return False
        self._tried_at = now
        self._enter("half_open")
        return True

    def ended(self, *, failed: bool, seconds: float, still_s: float = 0.0) -> None:
        """Say how a call ended.

        Args:
            failed: whether it did not do what it should.
            seconds: how long it took.
            still_s: for how many of these this process itself stood still, see `guard.pulse`.
        """
        own_fault, seconds = 2.0 * still_s > seconds, max(seconds - still_s, 0.0)
        if self._state == "half_open":
            self._tried(worked=not failed and seconds <= self._settings.max_p95_s, own_fault=own_fault)
            return
        if self._state == "open" or own_fault:  # open: a call that was under way then
            return
        self._calls.append((failed, seconds))
        if (failed and self._hangs()) or (len(self._calls) == self._settings.window and self._is_bad()):
            self._open()

    def _tried(self, *, worked: bool, own_fault: bool) -> None:
        if worked:
            self._calls.clear()
            self._enter("closed")
        elif own_fault:
            self._tried_at = -inf  # nothing was learned: whoever comes next may try
        else:
            self._open()

    def _hangs(self) -> bool:
        return sum(seconds for failed, seconds in list(self._calls) if failed) > self._settings.max_wasted_s

    def _is_bad(self) -> bool:
        calls = list(self._calls)
        failures = sum(failed for failed, _ in calls)
        if failures >= self._settings.max_error_share * len(calls):
            return True
        slower = sorted(seconds for _, seconds in calls)
        return slower[ceil(0.95 * len(slower)) - 1] > self._settings.max_p95_s

    def _open(self) -> None:
        self._calls.clear()
        self._opened_at = self._clock()
        self._enter("open")

    def _enter(self, state: CircuitState) -> None:
        if state != self._state:
            self._state = state
            self._on_change(state)
