"""Load over kept-alive loopback connections: closed loop for peak throughput, open loop for latency.

Raw sockets, since an HTTP library would take more of the two cores than the service. In the open loop, requests are due
at random moments whatever the service does, and latency counts from the moment a request was due, so that a stall shows
up in every request it delayed (no coordinated omission).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_CONNECTIONS = 512
MOST_SECONDS = 600.0
LOOPBACK = "127.0.0.1"
REFUSED = (429, 503)
BACK_OFF_S = 0.1
"""How long a connection of the closed loop rests when it was refused; one that asks again at once only makes work."""
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Seen:
    """What a load saw.

    Attributes:
        latencies_s: of every answer with status 200, in seconds.
        refused_s: of every answer with one of the statuses `REFUSED`.
        statuses: answers by status; 0 stands for a connection that broke.
        seconds: how long the load lasted.
        degraded: answers that said they rest on less than they could have.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    degraded: int = 0

    def add(self, other: "Seen") -> None:
        """Take over what another load saw."""
        self.latencies_s += other.latencies_s
        self.refused_s += other.refused_s
        self.statuses += other.statuses
        self.seconds += other.seconds
        self.degraded += other.degraded

    @property
    def refused_p99_ms(self) -> float:
        """99th percentile of how long it took to refuse, in milliseconds."""
        return float(np.quantile(self.refused_s, 0.99)) * 1e3 if self.refused_s else float("nan")

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latency of good answers, in milliseconds."""
        return float(np.quantile(self.latencies_s, share)) * 1e3 if self.latencies_s else float("nan")


@dataclass(frozen=True)
class Target:
    """Where requests go, ready to be written to a socket."""

    port: int
    requests: Sequence[bytes]

    @classmethod
    def posting(cls, port: int, path: str, bodies: Sequence[bytes], headers: str = "") -> "Target":
        """Post JSON bodies to one route; `headers` are complete lines, each ended by CR LF."""
        head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nContent-Type: application/json\r\n{headers}"
        return cls(port, [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies])


def closed_loop(target: Target, *, connections: int, seconds: float) -> Seen:
    """Keep `connections` requests in flight for some seconds."""
    assert connections <= MOST_CONNECTIONS
    assert seconds <= MOST_SECONDS
    return asyncio.run(_closed(target, connections, seconds))


def open_loop(target: Target, *, rate: float, seconds: float, connections: int, seed: int) -> Seen:
    """Send requests at random moments, `rate` a second on average, over at most `connections` connections."""
    assert connections <= MOST_CONNECTIONS
    assert seconds <= MOST_SECONDS
    return asyncio.run(_open(target, rate, seconds, connections, random.Random(seed)))


def burst(target: Target, *, connections: int) -> Seen:
    """Open so many connections at once, send one request on each, and wait for every answer."""
    assert connections <= MOST_CONNECTIONS
    return asyncio.run(_burst(target, connections))


async def _burst(target: Target, connections: int) -> Seen:
    seen, started = Seen(), time.perf_counter()

    async def one(number: int) -> None:
        wire = _Wire(target.port)
        await wire.exchange(target.requests[number % len(target.requests)], started, seen)
        wire.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    seen.seconds = time.perf_counter() - started
    return seen


async def _closed(target: Target, connections: int, seconds: float) -> Seen:
    seen, started = Seen(), time.perf_counter()
    ends = started + seconds

    async def worker(number: int) -> None:
        wire = _Wire(target.port)
        turn = number
        while (now := time.perf_counter()) < ends:
            if await wire.exchange(target.requests[turn % len(target.requests)], now, seen) in REFUSED:
                await asyncio.sleep(BACK_OFF_S)
            turn += connections
        wire.close()

    await asyncio.gather(*(worker(number) for number in range(connections)))
    seen.seconds = time.perf_counter() - started
    return seen


async def _open(target: Target, rate: float, seconds: float, connections: int, rng: random.Random) -> Seen:
    seen, started = Seen(), time.perf_counter()
    due_times: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def arrivals() -> None:
        due, turn = started, 0
        while (due := due + rng.expovariate(rate)) < started + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due_times.put_nowait((due, target.requests[turn % len(target.requests)]))
            turn += 1
        for _ in range(connections):
            due_times.put_nowait(None)

    async def worker() -> None:
        wire = _Wire(target.port)
        while (work := await due_times.get()) is not None:
            await wire.exchange(work[1], work[0], seen)
        wire.close()

    await asyncio.gather(arrivals(), *(worker() for _ in range(connections)))
    seen.seconds = time.perf_counter() - started
    return seen


class _Wire:
    """One connection, made again when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: _Stream | None = None

    async def exchange(self, request: bytes, due: float, seen: Seen) -> int:
        """Send a request, read its answer, note both, and return the status; 0 when the connection broke."""
        try:
            if self._stream is None:
                self._stream = await asyncio.open_connection(LOOPBACK, self._port)
            reader, writer = self._stream
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(_content_length(head))
        except (OSError, asyncio.IncompleteReadError):
            seen.statuses[0] += 1
            self.close()
            await asyncio.sleep(0.01)
            return 0
        status = int(head[9:12])
        seen.statuses[status] += 1
        took = time.perf_counter() - due
        if status == 200:
            seen.latencies_s.append(took)
            seen.degraded += b'"is_degraded":true' in body
        elif status in REFUSED:
            seen.refused_s.append(took)
        if b"connection: close" in head:
            self.close()
        return status

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


def _content_length(head: bytes) -> int:
    start = head.index(b"content-length:") + len(b"content-length:")
    return int(head[start : head.index(b"\r\n", start)])
