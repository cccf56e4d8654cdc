"""The cases of the serving benchmark; each measures in rounds, contestants taking turns, and returns figures."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

from serve_bench import family
from serve_bench.here import Here
from serve_bench.load import Seen, Target, burst, closed_loop, open_loop
from serve_bench.services import Service, Turns

PATH = "/v1/recommend"
CONNECTIONS = 32
FEW = (1, 2, 4, 8, 16)
"""Numbers of connections among which a peer finds its own best one."""
BUSY = 4
"""Connections that keep one replica busy, and let it refuse nobody."""
BURST = 300
_WARM_S = 5.0


@dataclass
class Measured:
    """What one contestant showed, over all rounds.

    Attributes:
        rates: good answers per second, one per round.
        seen: everything that was answered.
        replica_cpu_s, proxy_cpu_s, generator_cpu_s: processor seconds spent meanwhile.
    """

    rates: list[float] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)
    replica_cpu_s: float = 0.0
    proxy_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rates)

    def times(self, other: "Measured") -> float:
        """Median over the rounds of this rate over the other's in the same round: the machine changes its speed."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.rates, other.rates, strict=True))

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds of the replicas per good answer."""
        return 1e3 * self.replica_cpu_s / max(1, self.seen.statuses[200])

    @property
    def proxy_ms(self) -> float:
        """Processor milliseconds of the proxies per good answer."""
        return 1e3 * self.proxy_cpu_s / max(1, self.seen.statuses[200])

    @property
    def generator_ms(self) -> float:
        """Processor milliseconds of this process, which asks, per good answer."""
        return 1e3 * self.generator_cpu_s / max(1, self.seen.statuses[200])


class Share(NamedTuple):
    """Processor milliseconds an answer in one round: of a busy replica, of its handler and its pipeline in process."""

    replica_ms: float
    handler_ms: float
    pipeline_ms: float


def peak(
    services: Sequence[Service],
    bodies: Mapping[str, Sequence[bytes]],
    *,
    rounds: int,
    seconds: float,
    turns: Turns | None = None,
) -> dict[str, Measured]:
    """Closed loop, `CONNECTIONS` in flight; `bodies` by the name of the service. Each has a turn, where there are."""
    found = {service.name: Measured() for service in services}
    for service in services if turns is None else ():
        closed_loop(Target.posting(service.port, PATH, bodies[service.name]), connections=8, seconds=_WARM_S)
    for number in range(rounds):
        for service in services:
            target = Target.posting(service.port, PATH, bodies[service.name])
            with nullcontext() if turns is None else turns.of(service):
                if turns is not None and number == 0:
                    closed_loop(target, connections=8, seconds=_WARM_S)
                _measure(
                    service,
                    found[service.name],
                    lambda target=target: closed_loop(target, connections=CONNECTIONS, seconds=seconds),  # type: ignore[misc]  # mypy loses the default
                )
            print(f"round {number + 1}: {service.name}: {found[service.name].rates[-1]:.0f} requests/s", flush=True)
    return found


@dataclass
class Best:
    """What a service does with as many connections as suit it, and what it did with other numbers, once each."""

    connections: int
    measured: Measured
    by_connections: dict[int, float]


def best(service: Service, bodies: Sequence[bytes], *, rounds: int, seconds: float) -> Best:
    """Closed loop with each of `FEW` connections, then in full with the number that did best."""
    target = Target.posting(service.port, PATH, bodies)
    by_connections = {count: closed_loop(target, connections=count, seconds=seconds).rate for count in FEW}
    chosen = max(by_connections, key=lambda count: by_connections[count])
    found = Best(chosen, Measured(), by_connections)
    for _ in range(rounds):
        _measure(service, found.measured, lambda: closed_loop(target, connections=chosen, seconds=seconds))
    print(f"{service.name}: {chosen} connections, {found.measured.rate:.0f} requests/s", flush=True)
    return found


def latency(service: Service, bodies: Sequence[bytes], *, rate: float, rounds: int, seconds: float) -> Measured:
    """Open loop at a given rate."""
    found = Measured()
    target = Target.posting(service.port, PATH, bodies)
    for number in range(rounds):
        _measure(
            service,
            found,
            lambda number=number: open_loop(target, rate=rate, seconds=seconds, connections=64, seed=number),  # type: ignore[misc]  # mypy loses the default
        )
    return found


def beside(service: Service, bodies: Sequence[bytes], here: Here, *, rounds: int, seconds: float) -> list[Share]:
    """Take turns: some seconds of requests in process, some of a closed loop that keeps the service busy as well."""
    target = Target.posting(service.port, PATH, bodies)
    found = []
    for number in range(rounds):
        stopped = family.stop(service.root_pid)
        try:
            in_process = here(bodies, seconds)
        finally:
            family.go_on(stopped)
        there = Measured()
        closed_loop(target, connections=BUSY, seconds=1.0)
        _measure(service, there, lambda: closed_loop(target, connections=BUSY, seconds=seconds))
        if set(there.seen.statuses) != {200}:
            raise SystemExit(f"{service.name}: {dict(there.seen.statuses)} with {BUSY} connections; expected 200 alone")
        found.append(Share(there.cpu_ms, *in_process))
        print(f"round {number + 1}: {there.cpu_ms:.2f} ms of processor time, in process {in_process}", flush=True)
    return found


@dataclass
class Overload:
    """What twice the peak did.

    Attributes:
        during, after: what was seen at twice the peak, and at 60 % of it right afterwards.
        at_once: what `BURST` new connections that came at once saw, after that.
        before_bytes, growth_bytes: memory of the replicas before, and how much more they held at the end.
    """

    during: Measured
    after: Seen
    at_once: Seen
    before_bytes: int
    growth_bytes: int


def overload(service: Service, bodies: Sequence[bytes], *, peak_rate: float, seconds: float) -> Overload:
    """Open loop at twice the peak, then five seconds of calm, then 60 % of the peak."""
    target = Target.posting(service.port, PATH, bodies)
    pids = family.replicas(service.root_pid)
    before = sum(map(family.resident_bytes, pids))
    during = Measured()
    _measure(service, during, lambda: open_loop(target, rate=2 * peak_rate, seconds=seconds, connections=256, seed=1))
    time.sleep(5.0)
    after = open_loop(target, rate=0.6 * peak_rate, seconds=10.0, connections=64, seed=2)
    at_once = burst(target, connections=BURST)
    return Overload(during, after, at_once, before, sum(map(family.resident_bytes, pids)) - before)


def _measure(service: Service, into: Measured, run: Callable[[], Seen]) -> None:
    pids, before, asked_before = family.replicas(service.root_pid), service.cpu_s(), time.process_time()
    seen = run()
    if family.replicas(service.root_pid) != pids:
        raise SystemExit(f"{service.name}: a replica was lost while it was measured; nothing said of it would be true")
    after, asked_after = service.cpu_s(), time.process_time()
    into.replica_cpu_s += after[0] - before[0]
    into.proxy_cpu_s += after[1] - before[1]
    into.generator_cpu_s += asked_after - asked_before
    into.rates.append(seen.rate)
    into.seen.add(seen)
