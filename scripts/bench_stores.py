"""Measure the state stores: reads and applied events per second, their latency, freshness and size per person.

    python scripts/bench_stores.py                 # SQLite, redis-server and a one-node Cluster, about two minutes
    python scripts/bench_stores.py --out -         # to the screen
    python scripts/bench_stores.py --url redis://127.0.0.1:6379/5   # a store of yours; it is written to

One client in one process asks one thing at a time, so figures are of latency, not of what a server can take. Servers
are started here, on loopback, without persistence.
"""

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import RedisError
from stress import drawing, page, pictures
from stress.pictures import Waits

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import LiveEvent, PersonEvent, StateStore
from retrank.serving.stores.settings import StateSettings

TENANT, NUM_ITEMS, SESSION_LENGTH, BATCH = "bench", 100_000, 10, 500


NOTES = """
Look at the load average before anything else: with more work than cores, every round trip to a server on the same
machine waits for the scheduler twice, and p50, p99 and calls/s are its figures more than the store's. CPU time suffers
least. A profile is read with the session at hand: three sets in one statement or one pipeline. A call that applies 500
events counts as one. An event with a session is three round trips to Redis (which sessions, the session, the person)
and one transaction in SQLite. KiB per person counts SQLite's file with its log, and `used_memory` of Redis.
"""


class Place(NamedTuple):
    """A store to measure: what it is called, where it is, and how many bytes it holds."""

    name: str
    url: str
    size: Callable[[], int]


class World(NamedTuple):
    """People with histories; every ten events are a session."""

    num_people: int
    events_each: int
    now: float

    def event(self, person: int, number: int, item: int) -> PersonEvent:
        at = round(self.now * 1e6) - 60_000_000 * (self.events_each - number)
        session = f"s{person}-{number // SESSION_LENGTH}"
        kind = "click" if number % 3 else "impression"
        return PersonEvent(f"u:{person}", LiveEvent(f"e{person}-{number}", kind, f"item-{item}", at, session))

    def batches(self, rng: np.random.Generator) -> Iterator[list[PersonEvent]]:
        """Yield all events as they would come: mixed over people, in time order for each."""
        people = np.tile(np.arange(self.num_people), (self.events_each, 1))
        order = rng.permuted(people, axis=1).ravel().tolist()
        items = rng.integers(0, NUM_ITEMS, len(order)).tolist()
        for start in range(0, len(order), BATCH):
            part = range(start, min(start + BATCH, len(order)))
            yield [self.event(order[i], i // self.num_people, items[i]) for i in part]


class Row(NamedTuple):
    """One figure: how often something was called, how quickly, and what it cost this process."""

    store: str
    what: str
    calls: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float

    def markdown(self) -> str:
        cells = [f"{self.calls:,}", f"{self.per_second:,.0f}", *(f"{ms:.2f}" for ms in self[4:])]
        return f"| {self.store} | {self.what} | " + " | ".join(cells) + " |"


def timed(store: str, what: str, calls: Sequence[Callable[[], object]]) -> Row:
    """Make all calls and return a row of the table."""
    taken = np.empty(len(calls))
    cpu = time.process_time()
    for index, call in enumerate(calls):
        start = time.perf_counter()
        call()
        taken[index] = time.perf_counter() - start
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(calls)
    p50, p99 = np.percentile(taken * 1e3, [50, 99])
    return Row(store, what, len(calls), len(calls) / taken.sum(), p50, p99, cpu_ms)


def measure(place: Place, world: World, num_calls: int, seed: int = 0) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    settings = StateSettings(url=SecretStr(place.url), timeout_s=30.0)
    store, other = open_store(settings), open_store(settings)
    before = place.size()
    batches = [partial(store.apply, TENANT, batch, world.now) for batch in world.batches(rng)]
    yield timed(place.name, f"apply {BATCH} events", batches)
    kilobytes = (place.size() - before) / world.num_people / 1_024
    people = rng.integers(0, world.num_people, num_calls).tolist()
    items = rng.integers(0, NUM_ITEMS, num_calls).tolist()
    newest = (world.events_each - 1) // SESSION_LENGTH
    reads = [partial(store.profile, TENANT, f"u:{p}", f"s{p}-{newest}", world.now) for p in people]
    yield timed(place.name, "read a profile", reads)
    one = [world.event(p, world.events_each + i, items[i]) for i, p in enumerate(people)]
    yield timed(place.name, "apply one event", [partial(store.apply, TENANT, [event], world.now) for event in one])
    fresh = [_seen_elsewhere(store, other, world, p, i) for i, p in enumerate(people[: num_calls // 4])]
    yield timed(place.name, f"apply one event, read it in another client ({kilobytes:.0f} KiB per person)", fresh)
    store.close()
    other.close()


def _seen_elsewhere(store: StateStore, other: StateStore, world: World, person: int, number: int) -> Callable[[], None]:
    event = world.event(person, 10 * world.events_each + number, number)._replace(person="u:fresh")

    def call() -> None:
        store.apply(TENANT, [event], world.now)
        found = other.profile(TENANT, "u:fresh", None, world.now).events
        assert event.event in found, "a click was not in the next read of another client"

    return call


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[int]:
    """Run a server and yield its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([*command, "--appendonly", "no", "--logfile", f"{port}.log", *options])
    try:
        wait(lambda: command_of(port, "PING"))
        yield port
    finally:
        process.kill()
        process.wait(30)


def command_of(port: int, *words: str) -> Any:
    with Redis(host="127.0.0.1", port=port, decode_responses=True) as client:
        return client.execute_command(*words)


def wait(answers: Callable[[], Any], seconds: float = 30.0) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            if answers():
                return
        except (RedisError, OSError):
            pass
        if time.monotonic() > give_up_at:
            raise TimeoutError("redis-server did not get ready")
        time.sleep(0.02)


@contextmanager
def built_in_places() -> Iterator[list[Place]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "state.sqlite"
        places = [Place("SQLite", f"sqlite:{path}", lambda: sum(file.stat().st_size for file in folder.glob("state*")))]
        if shutil.which("redis-server"):
            port = stack.enter_context(redis_server(folder))
            places.append(Place("Redis", f"redis://127.0.0.1:{port}/0", lambda: used(port)))
            options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port"]
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                options.append(str(listener.getsockname()[1]))
            node = stack.enter_context(redis_server(folder, *options))
            command_of(node, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            wait(lambda: "cluster_state:ok" in str(command_of(node, "CLUSTER", "INFO")))
            places.append(Place("Redis Cluster, one node", f"redis+cluster://127.0.0.1:{node}", lambda: used(node)))
        yield places


def used(port: int) -> int:
    with Redis(host="127.0.0.1", port=port) as client:
        return int(client.info("memory")["used_memory"])


def picture(rows: Sequence[Row]) -> str:
    """Show how long each call took, as SVG."""
    shown: dict[str, dict[str, Waits]] = {}
    for row in rows:
        shown.setdefault(row.what.partition(" (")[0], {})[row.store] = Waits([row.p50_ms, row.p99_ms])
    return pictures.waits(shown, "p50, p99")


def report(places: Sequence[Place], world: World, num_calls: int, out: Path | None) -> Iterator[str]:
    yield "# State stores: latency, freshness and size\n"
    server = shutil.which("redis-server")
    words = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout if server else ""
    yield (
        f"`{' '.join(['python scripts/bench_stores.py', *sys.argv[1:]])}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{_cpu_name()}, load average "
        f"{os.getloadavg()[0]:.1f} at the start, redis-py {version('redis')}, {' '.join(words.split()[:3])}. "
        f"{world.num_people:,} people with {world.events_each} events each, {num_calls:,} calls per figure, one "
        "client, one call at a time, servers on the same machine without persistence.\n"
    )
    rows = []
    for place in places:
        for row in measure(place, world, num_calls):
            print(row.markdown(), flush=True)
            rows.append(row)
    yield from drawing.beside(out, picture(rows), "How long each call took")
    yield "| store | what | calls | calls/s | p50 ms | p99 ms | client's CPU ms |"
    yield "|---|---|---|---|---|---|---|"
    yield from (row.markdown() for row in rows)
    yield "\n" + " ".join(NOTES.split())


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {len(names) or 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=50, help="events of each person")
    parser.add_argument("--calls", type=int, default=2_000, help="calls per figure")
    parser.add_argument("--url", help="a store of yours instead of the built-in ones")
    parser.add_argument("--out", default="docs/benchmarks/stores.md", help="Markdown file, - for the screen only")
    arguments = parser.parse_args()
    world = World(arguments.people, arguments.events, now=1_800_000_000.0)
    with built_in_places() as places:
        chosen = [Place("yours", arguments.url, lambda: 0)] if arguments.url else places
        out = None if arguments.out == "-" else Path(arguments.out)
        page.publish(report(chosen, world, arguments.calls, out), out)


if __name__ == "__main__":
    main()
