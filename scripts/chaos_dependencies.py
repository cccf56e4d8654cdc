"""Take away what the service stands on, one thing after another, under load: what do callers see?

    python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k
    python scripts/chaos_dependencies.py --bundle bundles/chaos20k --out docs/benchmarks/chaos_dependencies.md

A real redis-server is killed and started again, frozen and thawed; the SQLite file is overwritten; the disk of the logs
(a tmpfs of its own, which takes root) is filled and freed; the ranker of a second, tiny bundle gets less time than it
usually takes, so that it is left out whenever the rest of the request was not exceptionally quick.
Recommendations and events come at a steady pace before, while and after. While something is away, every recommendation
must be a 200 within its deadline and say that it is degraded; events must be taken or refused with 503 and Retry-After,
and every one that was taken must be in the profile of its person in the end. The application is the real one, with its
gate, called in this process: HAProxy and Ray have scripts of their own. Bounded: about a minute.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp
from stress import page
from stress.application import application, open_settings
from stress.asgi import Answer, exchange
from stress.fuzz_cases import Case
from stress.redis_server import RedisServer

from retrank.serving.service import Service
from retrank.serving.settings import ServiceSettings

ROOT = Path(__file__).parents[1]
TENANT = "default"
PEOPLE = 20
CATCH_UP_S = 30.0
DEADLINE_S = 0.1
_SHORT_MS = 1
_TMPFS_BYTES = 1 << 20
_HEADERS = [(b"content-type", b"application/json")]


@dataclass
class Tally:
    """What callers saw in one phase of one outage."""

    slates: Counter[int] = field(default_factory=Counter)
    degraded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    events: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    accepted: dict[str, str] = field(default_factory=dict)  # event id -> person
    refused: dict[str, str] = field(default_factory=dict)

    def slowest_ms(self, share: float = 1.0) -> float:
        return float(np.quantile(self.took_s, share)) * 1e3 if self.took_s else float("nan")


@dataclass
class Outage:
    """One thing that was away: what callers saw meanwhile and right after, and events that were taken and then lost."""

    name: str
    during: Tally
    after: Tally
    lost: int


async def load(app: ASGIApp, tally: Tally, asked: argparse.Namespace, label: str, people: str) -> None:
    """Send recommendations at a steady pace for a while, and one event for every four of them."""
    rng = random.Random(label)
    pending: set[asyncio.Task[None]] = set()
    started = time.monotonic()
    for number in range(round(asked.rate * asked.seconds)):
        await asyncio.sleep(max(0.0, started + number / asked.rate - time.monotonic()))
        person = people.format(rng.randrange(1, PEOPLE + 1))
        pending.add(asyncio.create_task(_recommend(app, tally, {"user_id": person})))
        if number % 4 == 0:
            pending.add(asyncio.create_task(_event(app, tally, person, f"{label}-{number}")))
        pending = {task for task in pending if not task.done()}
    await asyncio.gather(*pending)


async def _post(app: ASGIApp, path: str, body: object) -> Answer:
    return await exchange(app, Case("POST", path, _HEADERS, [json.dumps(body).encode()]), None)


async def _recommend(app: ASGIApp, tally: Tally, body: dict[str, object]) -> None:
    started = time.monotonic()
    answer = await _post(app, "/v1/recommend", {"k": 20, **body})
    tally.took_s.append(time.monotonic() - started)
    tally.slates[answer.status] += 1
    if answer.status == 200:
        degraded = json.loads(answer.body)["degraded"]
        tally.degraded += degraded["is_degraded"]
        tally.reasons.update(degraded["reasons"])


async def _event(app: ASGIApp, tally: Tally, person: str, event_id: str) -> None:
    event = {"event_id": event_id, "type": "click", "item_id": "a0000001", "user_id": person}
    answer = await _post(app, "/v1/events", {"events": [event]})
    tally.events[answer.status] += 1
    (tally.accepted if answer.status == 202 else tally.refused)[event_id] = person
    tally.without_retry_after += answer.status == 503 and "retry-after" not in answer.headers


async def outage(
    name: str, app: ASGIApp, service: Service, asked: argparse.Namespace, away: Callable[[], None],
    back: Callable[[], object] | None, *, people: str = "u{:07d}",
) -> Outage:  # fmt: skip
    """Run one outage: calm, away, back; send refused events again; look for events that were taken."""
    before, during, after = Tally(), Tally(), Tally()
    await load(app, before, asked, f"{name} before", people)
    away()
    await load(app, during, asked, f"{name} during", people)
    lost = 0
    if back is not None:
        back()
        await asyncio.sleep(2.5)  # a breaker tries again after a second, a log after half of one
        await load(app, after, asked, f"{name} after", people)
        for event_id, person in during.refused.items():
            await _event(app, after, person, event_id)
        lost = await _lost(service, during.accepted | after.accepted)
    found = Outage(name, during, after, lost)
    print(f"{name}: {page.counted(during.slates)}; events {page.counted(during.events)}, lost {lost}", flush=True)
    return found


async def _lost(service: Service, accepted: dict[str, str]) -> int:
    """Return how many events are in no profile after the applier had time to catch up."""
    store, ends = service.backing.store, time.monotonic() + CATCH_UP_S
    assert store is not None
    missing = dict(accepted)
    while missing and time.monotonic() < ends:
        await asyncio.sleep(0.5)
        for person in set(missing.values()):
            held = {event.event_id for event in store.profile(TENANT, f"u:{person}", None, time.time()).events}
            missing = {event_id: who for event_id, who in missing.items() if event_id not in held}
    return len(missing)


def redis_outages(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Kill and freeze the profile store."""
    with RedisServer(folder) as redis:
        settings = open_settings(asked.bundle, folder / "redis", state_url=redis.url)
        with application(settings) as (app, service):
            yield asyncio.run(outage("profile store (Redis) killed", app, service, asked, redis.kill, redis.start))
            yield asyncio.run(outage("profile store (Redis) frozen", app, service, asked, redis.freeze, redis.thaw))


def sqlite_outage(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Overwrite the file of the embedded store; nothing brings that back."""
    path = folder / "sqlite" / "state.sqlite"

    def overwrite() -> None:
        for file in path.parent.glob("state.sqlite*"):
            file.write_bytes(b"\xff" * file.stat().st_size)

    with application(open_settings(asked.bundle, path.parent)) as (app, service):
        yield asyncio.run(outage("profile store (SQLite) overwritten", app, service, asked, overwrite, None))


def log_outage(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Fill the disk of the logs."""
    with _small_disk(folder / "logs") as disk:
        filler = disk / "filler"

        def fill() -> None:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"\0" * 4_096):
                        pass
                except OSError:
                    return

        settings = open_settings(asked.bundle, folder / "log", logs=disk)
        with application(settings) as (app, service):
            yield asyncio.run(outage("disk of the logs full", app, service, asked, fill, filler.unlink))


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def ranker_outage(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Give the ranker less time than it needs, which is how a slow one is found missing."""
    sys.path.append(str(ROOT / "tests"))
    from ranked_world import ranked_world  # noqa: PLC0415  (torch; the one bundle with a ranker that needs no training)

    bundle = ranked_world().assemble(folder / "ranked").directory
    settings = open_settings(bundle, folder / "ranked.state", service=_hurried(folder / "ranked.state"))
    with application(settings) as (app, service):
        name = f"ranker, deadline {_SHORT_MS} ms"
        yield asyncio.run(outage(name, app, service, asked, lambda: None, None, people="u{}"))


def _hurried(folder: Path) -> ServiceSettings:
    return ServiceSettings(folder=folder, deadline_ms=_SHORT_MS)


def report(outages: list[Outage], asked: argparse.Namespace, skipped: list[str]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for one in outages:
        during = one.during
        asked_for = sum(during.slates.values())
        rows.append(
            (
                one.name,
                f"{during.slates[200]} of {asked_for}",
                during.degraded,
                f"{during.slowest_ms(0.99):.0f} / {during.slowest_ms():.0f}",
                sum(took_s > DEADLINE_S for took_s in during.took_s),
                page.counted(during.events),
                during.without_retry_after,
                one.lost,
                f"{one.after.slates[200]} of {sum(one.after.slates.values())}" if one.after.slates else "stays away",
            )
        )
    head = ("what is away", "answered 200", "degraded", "p99 / slowest ms", "beyond 100 ms", "events",
            "503 without Retry-After", "events taken and lost", "200 afterwards")  # fmt: skip
    reasons = [
        f"- {one.name}: {', '.join(f'{n} x {r}' for r, n in one.during.reasons.most_common())}" for one in outages
    ]
    return [
        "# Taking dependencies away",
        "",
        page.conditions("chaos_dependencies.py", f"--bundle BUNDLE --rate {asked.rate:g} --seconds {asked.seconds:g}"),
        f"{asked.rate:g} recommendations and {asked.rate / 4:g} events a second, {asked.seconds:g} s each before, "
        "while and after; deadline 100 ms where nothing else is said. The top of the script says what is measured.",
        "",
        *page.table(head, rows),
        "",
        "Goal: every valid request 200, degraded, within its deadline; no event that was taken is lost.",
        "",
        *reasons,
        *(f"- skipped: {what}" for what in skipped),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="made by make_big_bundle.py")
    parser.add_argument("--rate", type=float, default=50.0, help="recommendations a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase, at most 60")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    asked.seconds = min(asked.seconds, 60.0)
    outages: list[Outage] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        outages += redis_outages(asked, folder)
        outages += sqlite_outage(asked, folder)
        if os.geteuid() == 0:
            outages += log_outage(asked, folder)
        else:
            skipped.append("the full disk; mounting a small one takes root")
        outages += ranker_outage(asked, folder)
    page.publish(report(outages, asked, skipped), asked.out)
    bad = sum(sum(one.during.slates.values()) - one.during.slates[200] + one.lost for one in outages)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
