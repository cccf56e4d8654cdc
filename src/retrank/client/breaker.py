"""Stop calling a service that does not answer, and ask again now and then."""

from collections.abc import Callable
from threading import Lock


class Breaker:
    """Opens after failures in a row; then lets one call through every `open_s` seconds until one succeeds.

    Args:
        failures: in a row, >= 1.
        open_s: seconds between trials.
        clock: monotonic seconds.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float]) -> None:
        """Start closed."""
        self._limit, self._open_s, self._clock = failures, open_s, clock
        self._failures = 0
        self._try_at = 0.0
        self._lock = Lock()

    @property
    def is_open(self) -> bool:
        """Tell whether calls are being held back."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Tell whether a call may be made now; while open, that is one call per `open_s`."""
        with self._lock:
            if not self.is_open:
                return True
            now = self._clock()
            if now < self._try_at:
                return False
            self._try_at = now + self._open_s
            return True

    def record(self, *, succeeded: bool) -> None:
        """Count the outcome of an attempt."""
        with self._lock:
            if succeeded:
                self._failures = 0
                return
            self._failures += 1
            if self._failures == self._limit:
                self._try_at = self._clock() + self._open_s
