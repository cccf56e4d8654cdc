"""How much one caller may ask for: a token bucket per caller, kept in this process.

A quota therefore holds per replica: with R replicas behind a load balancer a caller gets up to R times as much. That is
a bound on harm, not a bill; a shared counter would put a round trip to a store in front of every request.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from retrank.serving.guard.settings import QuotaSettings

MAX_CALLERS = 10_000
"""Buckets kept; the caller that was quiet the longest is forgotten, and comes back with a full bucket."""


class Allowance(NamedTuple):
    """The state of a caller's bucket after a request.

    Attributes:
        granted: whether the request may go on.
        limit: tokens of a full bucket.
        remaining: whole tokens left.
        reset_s: seconds until the bucket is full again.
        wait_s: seconds until there are as many as the request costs; 0 when the request was granted.
    """

    granted: bool
    limit: int
    remaining: int
    reset_s: float
    wait_s: float


class Quotas:
    """Token buckets by caller."""

    def __init__(self, settings: QuotaSettings, clock: Callable[[], float]) -> None:
        """Start with full buckets; `clock` is monotonic seconds."""
        self._rate = settings.per_second
        self._burst = settings.burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, caller: str, cost: int = 1, paid: int = 0) -> Allowance | None:
        """Take the tokens of a request, all or none; None when there is no quota.

        Args:
            caller: whose bucket.
            cost: tokens that the request costs.
            paid: how many of these it has taken before; when it is refused they stay taken, and coming back costs all.
        """
        if self._rate <= 0:
            return None
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        granted = tokens >= cost - paid
        tokens -= (cost - paid) if granted else 0
        self._buckets[caller] = (tokens, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        return Allowance(
            granted=granted,
            limit=self._burst,
            remaining=int(tokens),
            reset_s=(self._burst - tokens) / self._rate,
            wait_s=0.0 if granted else (cost - tokens) / self._rate,
        )


def rate_limit_headers(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    """Return the RateLimit fields of an answer.

    Source: draft-ietf-httpapi-ratelimit-headers-07, whose three plain fields are what clients read today.
    """
    return [
        (b"ratelimit-limit", str(allowance.limit).encode()),
        (b"ratelimit-remaining", str(allowance.remaining).encode()),
        (b"ratelimit-reset", str(ceil(allowance.reset_s)).encode()),
    ]
