"""The life of a call without any input or output: which step comes next, given what the last one brought.

The sync and the async client drive the same generator, so they cannot differ: it yields `Send` (send the request, give
back a `Reply`, or the error because of which none came) and `Wait` (sleep), and returns the reply that ends the call.
"""

import random
from collections.abc import Callable, Generator, Mapping
from http import HTTPStatus
from typing import NamedTuple

from retrank.client.answers import Refusal
from retrank.client.breaker import Breaker
from retrank.client.budget import RetryBudget
from retrank.client.errors import CallFailed, CallRefused
from retrank.client.settings import ClientSettings

_PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,  # HAProxy's word while no replica is up; every call here may be repeated
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_OWN_WORDS = "application/problem+json"
_SHORTEST_ATTEMPT_S = 0.001


class Send(NamedTuple):
    """Send the request; wait no longer than this for its answer, and tell the service so."""

    timeout_s: float


class Wait(NamedTuple):
    """Sleep."""

    seconds: float


class Reply(NamedTuple):
    """An answer of the service; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Flow = Generator[Send | Wait, Reply | Exception | None, Reply]


class Caller:
    """What all calls of one client share: budget, breaker, clock and chance.

    Args:
        settings: how to call.
        clock: monotonic seconds.
        rng: jitter of waits.
    """

    def __init__(self, settings: ClientSettings, clock: Callable[[], float], rng: random.Random) -> None:
        """Start with a full budget and a closed breaker."""
        self.settings = settings
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, clock)
        self._budget = RetryBudget(settings.retry_share, settings.retry_reserve)
        self._clock, self._rng = clock, rng

    def call(self, deadline_s: float | None) -> Flow:
        """Take one call from its first attempt to its reply.

        Raises:
            CallRefused: the service said no in a way that another attempt cannot change.
            CallFailed: no usable answer within the deadline.
        """
        ends = self._clock() + (self.settings.deadline_s if deadline_s is None else deadline_s)
        if not self.breaker.allows():
            raise CallFailed("the service has not answered lately, so it was not called", attempts=0)
        self._budget.earn()
        attempts = 0
        while True:
            left = max(ends - self._clock(), _SHORTEST_ATTEMPT_S)
            attempts += 1
            came = yield Send(min(left, self.settings.attempt_s))
            reply = came if isinstance(came, Reply) else None
            self.breaker.record(succeeded=_answers(reply))
            if reply is not None and not _passing(reply):
                return self._accepted(reply)
            wait = self._before_retry(attempts, reply)
            if not self._may_retry(attempts, wait, ends):
                raise _failed(attempts, came) from (came if isinstance(came, Exception) else None)
            yield Wait(wait)

    def _before_retry(self, attempts: int, reply: Reply | None) -> float:
        """Return seconds to wait: what the service asks for, else a jittered, doubling pause."""
        pause = self.settings.backoff_s * 2.0 ** (attempts - 1) * self._rng.uniform(0.5, 1.5)
        return max(pause, retry_after(reply))

    def _may_retry(self, attempts: int, wait: float, ends: float) -> bool:
        in_time = self._clock() + wait < ends
        return attempts < self.settings.max_attempts and in_time and self._budget.spend()

    def _accepted(self, reply: Reply) -> Reply:
        """Return a good reply; what a refusal echoes of the key is in no error."""
        if reply.status < HTTPStatus.BAD_REQUEST:
            return reply
        key = self.settings.api_key
        body = reply.body if key is None else reply.body.replace(key.get_secret_value().encode(), b"...")
        raise CallRefused(reply.status, Refusal.of(body))


def retry_after(reply: Reply | None) -> float:
    """Return the seconds a reply asks to wait; 0 when it does not say, or not in seconds."""
    text = "" if reply is None else reply.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and text.isascii() else 0.0


def _answers(reply: Reply | None) -> bool:
    """Tell whether the service is there: shedding load (429) is an answer, too."""
    return reply is not None and (not _passing(reply) or reply.status == HTTPStatus.TOO_MANY_REQUESTS)


def _passing(reply: Reply) -> bool:
    """Tell whether another attempt may be answered otherwise.

    A 404 that is no problem document is Ray's word while the routes of a service that starts are not there yet.
    """
    unrouted = reply.status == HTTPStatus.NOT_FOUND and not reply.headers.get("content-type", "").startswith(_OWN_WORDS)
    return reply.status in _PASSING or unrouted


def _failed(attempts: int, came: Reply | Exception | None) -> CallFailed:
    status = came.status if isinstance(came, Reply) else None
    seen = f"no answer{_because(came)}" if status is None else f"status {status}"
    return CallFailed(f"{attempts} attempt(s), the last one ended with {seen}", attempts=attempts, status=status)


def _because(cause: object) -> str:
    """Return what kept an answer from coming; some errors have no text, their name says it all."""
    if not isinstance(cause, Exception):
        return ""
    text = str(cause)
    return f" ({type(cause).__name__}: {text})" if text else f" ({type(cause).__name__})"
