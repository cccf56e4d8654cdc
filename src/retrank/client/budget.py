"""A retry budget: retries stay a small share of all calls, so that they cannot multiply an overload."""

from threading import Lock


class RetryBudget:
    """Tokens: each call earns a share of one, each retry costs one. Safe to share between threads.

    Args:
        share: tokens a call earns, i.e. retries per call in the long run, 0..1.
        reserve: most tokens that can be saved up, and how many there are at first.
    """

    def __init__(self, share: float, reserve: float) -> None:
        """Start with a full reserve."""
        self._share, self._reserve, self._tokens = share, reserve, reserve
        self._lock = Lock()

    def earn(self) -> None:
        """Count a call."""
        with self._lock:
            self._tokens = min(self._reserve, self._tokens + self._share)

    def spend(self) -> bool:
        """Pay for a retry; False when there is nothing left to pay with."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
