"""How long after a click does another process answer from it?

    python scripts/bench_freshness.py                                    # SQLite, and a redis-server of its own
    python scripts/bench_freshness.py --clicks 500 --report docs/benchmarks/freshness.md
    python scripts/bench_freshness.py --url redis://127.0.0.1:6379/5     # a store of yours; it is written to

Two processes stand for two replicas. One takes a click through an `Intake` with a real segment log and the store, and
gets the receipt. Then the other reads the profile as a replica does when it is asked for a slate, and says whether the
click is in it. Three times are reported, all from the moment the click came in: until its receipt, until the answer of
the other process, and how long that answer took by itself. A click that is missing in any answer ends the run.

`--background` sends events of other people through the same intake meanwhile. Goal: within 100 ms.
"""

import argparse
import multiprocessing
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench_stores import redis_server
from pydantic import SecretStr
from stress import drawing, page, pictures
from stress.pictures import Waits

from retrank.contract.events import EventBatch, person_key
from retrank.serving.events.intake import Intake, open_intake
from retrank.serving.events.settings import EventSettings
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.profiles import GuardedProfiles
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import DEFAULT_TENANT
from retrank.serving.stores.settings import StateSettings
from retrank.serving.telemetry.facade import Telemetry

GOAL_MS = 100.0
_Asked = tuple[str, str]


class Times(NamedTuple):
    """Seconds after a click: until the receipt, until the other process had answered; and what the answer took."""

    receipt_s: float
    answer_s: float
    reading_s: float


class MissedError(Exception):
    """An acknowledged click was not in the next answer of the other process."""


def settings_of(url: str) -> StateSettings:
    return StateSettings(url=SecretStr(url), timeout_s=10.0)


def answer(url: str, pipe: Connection) -> None:
    """Read profiles as a replica does, for as long as somebody asks: (user, event id) -> is it there, seconds."""
    store = open_store(settings_of(url))
    guarded = GuardedProfiles(store, Breaker(BreakerSettings(), time.monotonic), time.monotonic, Telemetry())
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        user, event_id = asked
        begun = time.perf_counter()
        profile, rung = guarded.read(DEFAULT_TENANT, person_key(user, None, None), None, time.time())
        there = rung is None and any(event.event_id == event_id for event in profile.events)
        pipe.send((there, time.perf_counter() - begun))
    store.close()


@contextmanager
def another_replica(url: str) -> Iterator[Connection]:
    """Start a process that answers, and end it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=answer, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ours
        ours.send(None)
        process.join(30)
    finally:
        process.kill()
        process.join()


def clicked(intake: Intake, other: Connection, user: str, event_id: str) -> Times:
    """Click, wait for the receipt, and ask the other process.

    Raises:
        MissedError: it does not know of the click.
    """
    event = {"event_id": event_id, "type": "click", "item_id": "i1", "user_id": user, "session_id": f"s-{user}"}
    begun = time.perf_counter()
    receipt = intake.begin(EventBatch(events=[event])).result(60)
    acknowledged = time.perf_counter()
    other.send((user, event_id))
    there, reading_s = other.recv()
    answered = time.perf_counter()
    if receipt.accepted != 1 or not there:
        raise MissedError(f"click {event_id}: {receipt}, in the next answer of another process: {there}")
    return Times(acknowledged - begun, answered - begun, reading_s)


@contextmanager
def others_act(intake: Intake, events_s: float) -> Iterator[None]:
    """Send events of other people, ten at a time, until the block is left."""
    ended = threading.Event()

    def act() -> None:
        for number in count():
            if ended.wait(10 / events_s):
                return
            names = [f"b{number}-{place}" for place in range(10)]
            events = [{"event_id": name, "type": "impression", "item_id": "i2", "user_id": name} for name in names]
            intake.begin(EventBatch(events=events))

    thread = threading.Thread(target=act, daemon=True)
    if events_s:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if events_s:
            thread.join()


def measure(url: str, folder: Path, *, clicks: int, users: int, background: float = 0.0) -> list[Times]:
    """Return the times of clicks on a store, one after the other."""
    store = open_store(settings_of(url))
    store.ping()
    intake = open_intake(EventSettings(directory=folder), store)
    try:
        with another_replica(url) as other, others_act(intake, background):
            return [clicked(intake, other, f"user-{n % users}", f"c{time.time_ns()}-{n}") for n in range(clicks)]
    finally:
        intake.close()
        store.close()


def percentiles_ms(values: Sequence[float]) -> list[float]:
    """Return p50, p99 and the largest of some seconds, in milliseconds."""
    ordered = sorted(values)
    return [1e3 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in (50, 99, 100)]


def waits_of(found: Sequence[Times]) -> dict[str, Waits]:
    return {
        "receipt": Waits(percentiles_ms([one.receipt_s for one in found])),
        "answer elsewhere": Waits(percentiles_ms([one.answer_s for one in found]), GOAL_MS),
    }


def row(store: str, background: float, found: Sequence[Times]) -> str:
    def cell(values: list[float]) -> str:
        return " / ".join(f"{value:.1f}" for value in percentiles_ms(values))

    columns = [cell([getattr(one, name) for one in found]) for name in Times._fields]
    return f"| {store} | {background:,.0f} | {len(found):,} | {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=300)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--background", type=float, default=1_000.0, help="events/s of others, in a second row")
    parser.add_argument("--url", default=None, help="a store to use instead; its kind is the name in the table")
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    lines = []
    worst_ms = 0.0
    shown: dict[str, dict[str, Waits]] = {}

    def run(store: str, url: str, folder: Path) -> None:
        nonlocal worst_ms
        for background in (0.0, options.background):
            log = folder / f"log-{background:.0f}"
            found = measure(url, log, clicks=options.clicks, users=options.users, background=background)
            worst_ms = max(worst_ms, 1e3 * max(one.answer_s for one in found))
            lines.append(row(store, background, found))
            shown[f"{store}, {background:,.0f} events/s of others"] = waits_of(found)
            print(lines[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.url is not None:
            run(options.url.partition(":")[0], options.url, folder)
        else:
            run("SQLite", f"sqlite:{folder / 'state.sqlite'}", folder)
        if options.url is None and shutil.which("redis-server"):
            with redis_server(folder) as port:
                (folder / "redis").mkdir()
                run("Redis", f"redis://127.0.0.1:{port}/0", folder / "redis")
    svg = pictures.waits(shown, "p50, p99, slowest")
    page.publish([report(lines, options, worst_ms, svg)], options.report)


def report(lines: Sequence[str], options: argparse.Namespace, worst_ms: float, svg: str) -> str:
    said = "Met by every click of this run" if worst_ms <= GOAL_MS else "Not met by every click of this run"
    table = "\n".join(lines)
    return f"""# A click changes the next answer of another process

`python scripts/bench_freshness.py --clicks {options.clicks}`

{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, load average at the end
{os.getloadavg()[0]:.1f}. Every click was in the next answer of the other process; one that is not ends the script.

Goal: within {GOAL_MS:g} ms. {said}: the slowest took {worst_ms:.0f} ms.

{chr(10).join(drawing.beside(options.report, svg, "From a click to its receipt, and to an answer elsewhere"))}
| store | events/s of others | clicks | receipt, ms p50 / p99 / max | answer elsewhere, ms | reading alone, ms |
|---|---|---|---|---|---|
{table}

*receipt*: from the click to its acknowledgement, an fsync included. *answer elsewhere*: from the click until another
process has read it; the promise. *reading alone*: what reading the profile took in that process.
"""


if __name__ == "__main__":
    main()
