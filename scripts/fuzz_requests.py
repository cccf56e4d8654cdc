"""Send requests that no sane caller sends to the application in this process, and see that it keeps its word.

    python scripts/make_big_bundle.py --items 2000 --users 500 --out bundles/fuzz
    python scripts/fuzz_requests.py --bundle bundles/fuzz --count 200000 --out docs/benchmarks/fuzz.md

Valid requests of every public route with up to three things wrong, broken and random JSON, random bytes, strange
headers, methods and paths, bodies that are too large or never end. What must hold for each: it is answered within
`--within` seconds, with a status below 500 (or a documented 503 or 507), and every error is a problem document. What
must hold for all together: memory and file descriptors stop growing. The application is the real one: gate, metrics,
SQLite state, event and decision logs. Equal seeds draw equal requests; `--only NUMBER` sends one of them alone.
"""

import argparse
import asyncio
import gc
import logging
import os
import random
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from serve_bench import family
from starlette.types import ASGIApp
from stress import page
from stress.application import application, open_settings
from stress.asgi import Hang, exchange, fault
from stress.fuzz_cases import Case, World, draw

from retrank.contract.bundle import ITEM_VOCAB, USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.guard.settings import GuardSettings, LaneSettings
from retrank.serving.settings import ServiceSettings, Settings
from retrank.serving.stores.settings import StateSettings

MOST = 10_000_000
_MIB = 1 << 20
_WARM_SHARE = 0.25
_SAY_EVERY = 10_000


@dataclass
class Found:
    """What a run saw.

    Attributes:
        statuses: answers by status; 0 are clients that hung up.
        faults: what went wrong -> how often, and the number of the first request that showed it.
        slowest_s: the longest that a request took.
        warm, end: resident bytes and open files after the first quarter, and at the end.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[int]] = field(default_factory=dict)
    slowest_s: float = 0.0
    warm: tuple[int, int] = (0, 0)
    end: tuple[int, int] = (0, 0)
    seconds: float = 0.0


class Tracebacks(logging.Handler):
    """Keeps the last traceback that the service logged: where a 500 came from."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            where = frames[-1] if frames else None
            self.last = f"{type(error).__name__}: {str(error)[:150]}" + (
                f" ({where.filename}:{where.lineno})" if where else ""
            )


def world_of(bundle: Path) -> World:
    """Return a few ids of a bundle."""
    items, users = (Vocab.open(current(bundle), files) for files in (ITEM_VOCAB, USER_VOCAB))
    return World(
        [items.id(row) for row in range(1, min(len(items), 500) + 1)],
        [users.id(row) for row in range(1, min(len(users), 200) + 1)],
    )


def patient(bundle: Path, folder: Path) -> Settings:
    """Return settings that refuse nothing for being late: what is looked for is not speed."""
    lane = LaneSettings(max_age_s=10)
    return open_settings(
        bundle,
        folder,
        service=ServiceSettings(folder=folder, deadline_ms=1_000),
        state=StateSettings(url=SecretStr(f"sqlite:{folder / 'state.sqlite'}"), max_changed_items=2_000),
        guard=GuardSettings(answers=lane, writes=lane),
    )


async def run(app: ASGIApp, world: World, asked: argparse.Namespace) -> Found:
    """Send the requests one after the other."""
    found, tracebacks = Found(), Tracebacks()
    logger = logging.getLogger("retrank")
    logger.propagate, logger.handlers = False, [tracebacks]
    numbers = range(asked.count) if asked.only is None else [asked.only]
    begun = time.perf_counter()
    for number in numbers:
        case = draw(world, random.Random(f"{asked.seed}/{number}"))
        if asked.only is not None:
            print(case)
        started = time.perf_counter()
        wrong = await _judged(app, case, asked.within, found, tracebacks)
        found.slowest_s = max(found.slowest_s, time.perf_counter() - started)
        if wrong is not None:
            found.faults.setdefault(wrong, []).append(number)
            print(f"request {number}: {wrong}", flush=True)
        if time.perf_counter() - begun > asked.most_s:
            break
        if number == int(asked.count * _WARM_SHARE):
            found.warm = _held()
        if number % _SAY_EVERY == _SAY_EVERY - 1:
            print(
                f"{number + 1:,}: {sum(map(len, found.faults.values()))} faults, {_held()[0] / _MIB:.0f} MiB",
                flush=True,
            )
    found.seconds, found.end = time.perf_counter() - begun, _held()
    found.warm = found.warm if found.warm[0] else found.end  # it ended before the first quarter
    return found


async def _judged(app: ASGIApp, case: Case, within_s: float, found: Found, tracebacks: Tracebacks) -> str | None:
    tracebacks.last = ""
    try:
        answer = await exchange(app, case, within_s)
    except (Hang, AssertionError) as error:
        return f"{case.method} {case.target[:40]}: {error}"
    except Exception as error:  # noqa: BLE001  (nothing may come out of an application)
        return f"{type(error).__name__} came out of the application: {str(error)[:150]}"
    found.statuses[answer.status] += 1
    wrong = fault(case, answer)
    return None if wrong is None else f"{wrong} {tracebacks.last}".strip()


def _held() -> tuple[int, int]:
    gc.collect()
    own = os.getpid()
    return family.resident_bytes(own), family.open_files(own)


def report(found: Found, asked: argparse.Namespace) -> list[str]:
    statuses = page.counted(found.statuses)
    sent = sum(found.statuses.values())
    growth = (found.end[0] - found.warm[0]) / _MIB
    rows = [
        ("requests", f"{sent:,}", "200,000"),
        ("status 5xx that is not documented, broken answers, hangs", sum(map(len, found.faults.values())), "0"),
        ("slowest request", f"{found.slowest_s * 1e3:,.0f} ms", f"{asked.within:g} s"),
        (
            "memory at the end against after the first quarter",
            f"{growth:+.1f} MiB of {found.end[0] / _MIB:,.0f}",
            "flat",
        ),
        ("file descriptors, then and at the end", f"{found.warm[1]}, {found.end[1]}", "flat"),
    ]
    return [
        "# Fuzzing the routes",
        "",
        page.conditions("fuzz_requests.py", f"--bundle BUNDLE --count {asked.count} --seed {asked.seed}"),
        "What is sent and what must hold is said at the top of the script.",
        "",
        *page.table(("what", "measured", "goal"), rows),
        "",
        f"Answers: {statuses}; {sent / max(found.seconds, 1e-9):,.0f} a second.",
        "",
        *(f"- {len(numbers)} x {wrong} (first: `--only {numbers[0]}`)" for wrong, numbers in found.faults.items()),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=5.0, help="seconds one request may take")
    parser.add_argument("--most-s", type=float, default=7_200.0, help="seconds after which it ends in any case")
    parser.add_argument("--only", type=int, default=None, help="send just this request, and show it")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    asked.count = min(asked.count, MOST)
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        application(patient(asked.bundle, Path(folder))) as (app, _),
    ):
        found = asyncio.run(run(app, world_of(asked.bundle), asked))
    page.publish(report(found, asked), asked.out)
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
