"""Take away what the service stands on, one thing after another, under load: what do callers see?

    python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k
    python scripts/make_big_bundle.py --items 2000 --users 500 --ranker --out bundles/fuzz
    python scripts/chaos_dependencies.py --bundle bundles/chaos20k --ranked bundles/fuzz \
        --out docs/benchmarks/chaos_dependencies.md

A real redis-server is killed and started again, frozen and thawed; the SQLite file is overwritten; the disk of the logs
(a tmpfs of its own, which takes root) is filled and freed; the graph of the ranker of a second bundle raises, takes
half of the deadline, or two and a half times all of it. Recommendations and events come at a steady pace before, while
and after. While something is away, every recommendation must be a 200 within its deadline and say that it is degraded,
from the moment the failure shows on, at most `NOTICED_S` after it. Events must be taken or refused with 503 and
Retry-After, and every one that was taken must be in the profile of its person in the end. The application is the real
one, with its gate, called in this process: HAProxy and Ray have scripts of their own. Bounded: about two minutes.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp
from stress import drawing, page, pictures
from stress.application import application, open_settings
from stress.asgi import Answer, exchange
from stress.failing_ranker import FailingRanker
from stress.fuzz_cases import Case
from stress.pictures import Waits
from stress.redis_server import RedisServer

from retrank.contract.bundle import USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.service import Service

TENANT = "default"
PEOPLE = 20
CATCH_UP_S = 30.0
DEADLINE_S = 0.1
NOTICED_S = 0.5
"""How long a failure may stay unseen: by then the first write, read or run after it has come back."""
STALLS_S = (0.05, 0.25)
_TMPFS_BYTES = 1 << 20
_HEADERS = [(b"content-type", b"application/json")]


@dataclass
class Tally:
    """What callers saw in one phase of one outage."""

    slates: Counter[int] = field(default_factory=Counter)
    degraded: int = 0
    whole_at_s: list[float] = field(default_factory=list)  # of answers that were not degraded, from the begin
    began_s: float = field(default_factory=time.monotonic)
    reasons: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    events: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    accepted: dict[str, str] = field(default_factory=dict)  # event id -> person
    refused: dict[str, str] = field(default_factory=dict)

    def slowest_ms(self, share: float = 1.0) -> float:
        return float(np.quantile(self.took_s, share)) * 1e3 if self.took_s else float("nan")

    @property
    def late(self) -> int:
        return sum(took_s > DEADLINE_S for took_s in self.took_s)


@dataclass
class Outage:
    """One thing that was away: what callers saw meanwhile and right after, and events that were taken and then lost."""

    name: str
    during: Tally
    after: Tally
    lost: int

    @property
    def reached(self) -> bool:
        """Whether callers saw what they were promised."""
        seen = self.during
        answered = seen.slates[200] == sum(seen.slates.values()) and not seen.late
        said = max(seen.whole_at_s, default=0.0) <= NOTICED_S
        events = not self.lost and not seen.without_retry_after and set(seen.events) <= {202, 503}
        return answered and said and events


async def load(app: ASGIApp, tally: Tally, asked: argparse.Namespace, label: str, people: list[str]) -> None:
    """Send recommendations at a steady pace for a while, and one event for every four of them."""
    rng = random.Random(label)
    pending: set[asyncio.Task[None]] = set()
    started = tally.began_s = time.monotonic()
    for number in range(round(asked.rate * asked.seconds)):
        await asyncio.sleep(max(0.0, started + number / asked.rate - time.monotonic()))
        person = rng.choice(people)
        pending.add(asyncio.create_task(_recommend(app, tally, {"user_id": person})))
        if number % 4 == 0:
            pending.add(asyncio.create_task(_event(app, tally, person, f"{label}-{number}")))
        pending = {task for task in pending if not task.done()}
    await asyncio.gather(*pending)


async def _post(app: ASGIApp, path: str, body: object) -> Answer:
    return await exchange(app, Case("POST", path, _HEADERS, [json.dumps(body).encode()]), None)


async def _recommend(app: ASGIApp, tally: Tally, body: dict[str, object]) -> None:
    started = time.monotonic()
    answer = await _post(app, "/v1/recommend", {"k": 20, "deadline_ms": round(DEADLINE_S * 1e3), **body})
    tally.took_s.append(time.monotonic() - started)
    tally.slates[answer.status] += 1
    if answer.status == 200:
        degraded = json.loads(answer.body)["degraded"]
        tally.degraded += degraded["is_degraded"]
        if not degraded["is_degraded"]:
            tally.whole_at_s.append(time.monotonic() - tally.began_s)
        tally.reasons.update(degraded["reasons"])


async def _event(app: ASGIApp, tally: Tally, person: str, event_id: str) -> None:
    event = {"event_id": event_id, "type": "click", "item_id": "a0000001", "user_id": person}
    answer = await _post(app, "/v1/events", {"events": [event]})
    tally.events[answer.status] += 1
    (tally.accepted if answer.status == 202 else tally.refused)[event_id] = person
    tally.without_retry_after += answer.status == 503 and "retry-after" not in answer.headers


async def outage(
    name: str, app: ASGIApp, service: Service, asked: argparse.Namespace, away: Callable[[], None],
    back: Callable[[], object] | None, people: list[str],
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
    who = people_of(asked.bundle)
    with RedisServer(folder) as redis:
        settings = open_settings(asked.bundle, folder / "redis", state_url=redis.url)
        with application(settings) as (app, service):
            name = "profile store (Redis)"
            yield asyncio.run(outage(f"{name} killed", app, service, asked, redis.kill, redis.start, who))
            yield asyncio.run(outage(f"{name} frozen", app, service, asked, redis.freeze, redis.thaw, who))


def sqlite_outage(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Overwrite the file of the embedded store; nothing brings that back."""
    path = folder / "sqlite" / "state.sqlite"

    def overwrite() -> None:
        for file in path.parent.glob("state.sqlite*"):
            file.write_bytes(b"\xff" * file.stat().st_size)

    with application(open_settings(asked.bundle, path.parent)) as (app, service):
        name, who = "profile store (SQLite) overwritten", people_of(asked.bundle)
        yield asyncio.run(outage(name, app, service, asked, overwrite, None, who))


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
            name, who = "disk of the logs full", people_of(asked.bundle)
            yield asyncio.run(outage(name, app, service, asked, fill, filler.unlink, who))


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def ranker_outages(asked: argparse.Namespace, folder: Path) -> Iterator[Outage]:
    """Let the graph of the ranker raise, and let it stall."""
    cases: dict[str, Callable[[FailingRanker], None]] = {"raises": FailingRanker.raise_errors}
    for seconds in STALLS_S:
        cases[f"takes {seconds * 1e3:.0f} ms"] = lambda ranker, seconds=seconds: ranker.stall(seconds)  # type: ignore[misc]  # mypy loses the default
    who = people_of(asked.ranked)
    for number, (name, fail) in enumerate(cases.items()):
        ranker = FailingRanker()
        settings = open_settings(asked.ranked, folder / f"ranker-{number}")
        with application(settings, ranker.installed) as (app, service):
            away = partial(fail, ranker)
            yield asyncio.run(outage(f"ranker {name}", app, service, asked, away, ranker.recover, who))


def people_of(bundle: Path) -> list[str]:
    """Return a few people whom a bundle knows."""
    users = Vocab.open(current(bundle), USER_VOCAB)
    return [users.id(row) for row in range(1, min(len(users), PEOPLE) + 1)]


def picture(outages: list[Outage]) -> str:
    """Show how long answers took while something was away, as SVG."""
    return pictures.waits(
        {
            one.name: {"a slate": Waits([one.during.slowest_ms(share) for share in (0.5, 0.99, 1.0)], DEADLINE_S * 1e3)}
            for one in outages
        },
        "p50, p99, slowest while it was away",
    )


_HEAD = (
    "what is away", "answered 200", "degraded", "not yet, until ms", "p99 / slowest ms", "late", "events",
    "503 without Retry-After", "events taken and lost", "200 afterwards", "reached",
)  # fmt: skip


def _row(one: Outage) -> tuple[object, ...]:
    during, after = one.during, one.after.slates
    unseen = max(during.whole_at_s, default=0.0)
    return (
        one.name,
        f"{during.slates[200]} of {sum(during.slates.values())}",
        during.degraded,
        f"{len(during.whole_at_s)}, {unseen * 1e3:.0f}" if during.whole_at_s else "0",
        f"{during.slowest_ms(0.99):.0f} / {during.slowest_ms():.0f}",
        during.late,
        page.counted(during.events),
        during.without_retry_after,
        one.lost,
        f"{after[200]} of {sum(after.values())}" if after else "stays away",
        page.verdict(one.reached),
    )


def report(outages: list[Outage], asked: argparse.Namespace, skipped: list[str]) -> list[str]:
    reasons = [
        f"- {one.name}: {', '.join(f'{n} x {r}' for r, n in one.during.reasons.most_common()) or 'nothing was missing'}"
        for one in outages
    ]
    return [
        "# Taking dependencies away",
        "",
        page.conditions(
            "chaos_dependencies.py",
            f"--bundle BUNDLE --ranked RANKED --rate {asked.rate:g} --seconds {asked.seconds:g}",
        ),
        f"{asked.rate:g} recommendations and {asked.rate / 4:g} events a second, {asked.seconds:g} s each before, "
        f"while and after; deadline {DEADLINE_S * 1e3:.0f} ms. The top of the script says what is measured.",
        "",
        *page.table(_HEAD, map(_row, outages)),
        "",
        "Goal: every valid request 200 within its deadline, degraded from the moment the failure shows, at most "
        f"{NOTICED_S * 1e3:.0f} ms after it; no event that was taken is lost. *late*: beyond the deadline. *not yet*: "
        "answers that did not say so, and when the last of them went out. A full disk shows when a write to it comes "
        "back, and a slate does not wait for its own record: those are the few that went out before. A ranker that is "
        "slow holds up the loop that answers and cannot be interrupted: it is found out by being late twice in a row, "
        "and tried again now and then.",
        "",
        *drawing.beside(asked.out, picture(outages), "How long answers took while something was away"),
        *reasons,
        *(f"- skipped: {what}" for what in skipped),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="made by make_big_bundle.py")
    parser.add_argument(
        "--ranked", type=Path, help="a bundle with a ranker; without one the ranker's cases are skipped"
    )
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
        if asked.ranked is not None:
            outages += ranker_outages(asked, folder)
        else:
            skipped.append("the ranker; no bundle with one was named")
    page.publish(report(outages, asked, skipped), asked.out)
    return 0 if all(one.reached for one in outages) else 1


if __name__ == "__main__":
    raise SystemExit(main())
