"""Threads that call a service through the client library, at a steady pace, and note what became of each call."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from retrank.client import Client, ClientError, ClientSettings, RecommendRequest, Slate

MOST_S = 900.0
_ASKED_FOR_S = 0.9


class Call(NamedTuple):
    """One call: when it began and how long it took, in seconds; why it failed, or ""; why its slate is degraded."""

    at: float
    took_s: float
    failure: str
    degraded: tuple[str, ...] = ()


class Callers:
    """Calls `recommend` for known users; a slate that the client made up itself counts as failed."""

    def __init__(
        self, url: str, users: Sequence[str], *, threads: int, rate: float, settings: ClientSettings | None = None
    ) -> None:
        self.calls: list[Call] = []
        self.retries = 0
        self.put_off = 0
        """Those among the retries for which the service asked for a second or more (429)."""
        self._users, self._pause_s = users, threads / rate
        self._client = Client(url, settings, sleep=self._sleep)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60.0)
        self._client.close()

    def since(self, at: float, until: float = float("inf")) -> list[Call]:
        """Return the calls that began in a span of time."""
        return [call for call in list(self.calls) if at <= call.at < until]

    def _call(self, number: int) -> None:
        rng = random.Random(number)
        ends = due = time.monotonic() + MOST_S
        due -= MOST_S - rng.uniform(0, self._pause_s)
        while not self._stop.wait(max(0.0, due - time.monotonic())) and time.monotonic() < ends:
            request = RecommendRequest(user_id=rng.choice(self._users), k=20)
            self.calls.append(timed(lambda request=request: self._client.recommend(request)))  # type: ignore[misc]  # mypy loses the default
            due = max(due + self._pause_s * rng.uniform(0.5, 1.5), time.monotonic() - 1.0)  # no endless catching up

    def _sleep(self, seconds: float) -> None:
        self.retries += 1
        self.put_off += seconds >= _ASKED_FOR_S
        time.sleep(seconds)


def timed(call: Callable[[], Slate]) -> Call:
    """Make a call and note what became of it."""
    started = time.monotonic()
    try:
        slate = call()
    except ClientError as error:
        return Call(started, time.monotonic() - started, f"{type(error).__name__}: {error}"[:200])
    took_s, reasons = time.monotonic() - started, tuple(slate.degraded.reasons)
    return Call(started, took_s, "answered by the client itself" if slate.is_local else "", reasons)


def quantile_ms(calls: Sequence[Call], share: float) -> float:
    """Return a quantile of the time calls took, in milliseconds."""
    return float(np.quantile([call.took_s for call in calls], share)) * 1e3 if calls else float("nan")
