"""Kill replicas under load and count what callers notice.

    python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k
    python scripts/chaos_replicas.py --bundle bundles/chaos20k --out docs/benchmarks/chaos_replicas.md

Starts `retrank serve` with two replicas on the loopback interface. Threads call `recommend` through the client library
at a steady pace, before, during and after; a replica, each in turn, gets SIGKILL. A call fails when the library raises
or has to answer by itself. Capacity is full again once two replicas live and HAProxy gets good answers from both.
Bounded: about half a minute a kill.
"""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from serve_bench import family
from serve_bench.services import Service, retrank
from stress import drawing, front, page, pictures
from stress.callers import Callers, quantile_ms

from retrank.client import ClientSettings
from retrank.contract.bundle import USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

MOST_KILLS = 100
REPLICAS = 2
FULL_WITHIN_S = 120.0
_LOOK_S = 0.1
_HEAD = ("kill", "full capacity after, s", "calls", "failed", "retries", "of them after a 429", "p99 ms", "slowest ms")


class Kill(NamedTuple):
    """What one kill did, from the signal until a while after full capacity; `at` as `Call.at`."""

    at: float
    full_after_s: float
    calls: int
    failed: int
    retries: int
    put_off: int
    p99_ms: float
    slowest_ms: float


def kill_once(service: Service, callers: Callers, number: int, calm_s: float) -> Kill:
    """Kill one replica, and wait until there are as many as before."""
    victims = family.replicas(service.root_pid)
    retries, put_off, killed_at = callers.retries, callers.put_off, time.monotonic()
    os.kill(sorted(victims)[number % len(victims)], signal.SIGKILL)
    full_after_s = _until_full(service.root_pid) - killed_at
    time.sleep(calm_s)
    calls = callers.since(killed_at)
    return Kill(
        killed_at,
        full_after_s,
        len(calls),
        sum(call.failure != "" for call in calls),
        callers.retries - retries,
        callers.put_off - put_off,
        quantile_ms(calls, 0.99),
        quantile_ms(calls, 1.0),
    )


def _until_full(root_pid: int) -> float:
    """Return the moment when every replica answered through HAProxy."""
    ends = time.monotonic() + FULL_WITHIN_S
    before: dict[str, int] = {}
    while time.monotonic() < ends:
        if len(family.replicas(root_pid)) == REPLICAS:
            seen = {server.name: server.good for server in front.servers(root_pid) if server.is_up}
            if len(seen) == REPLICAS and all(good > before.get(name, good) for name, good in seen.items()):
                return time.monotonic()
            before = seen if seen.keys() != before.keys() else before
        else:
            before = {}
        time.sleep(_LOOK_S)
    raise SystemExit(f"not at full capacity {FULL_WITHIN_S:g} s after a kill")


def run(asked: argparse.Namespace) -> tuple[list[Kill], Callers, float]:
    """Start the service, and kill."""
    vocab = Vocab.open(current(asked.bundle), USER_VOCAB)
    users = [vocab.id(row) for row in range(1, min(len(vocab), 5_000) + 1)]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        own = [f"serving.admin.port={free_port()}", f"serving.service.folder={folder / 'state'}"]
        with (
            retrank(asked.bundle, folder, replicas=REPLICAS, overrides=own) as service,
            Callers(
                f"http://127.0.0.1:{service.port}",
                users,
                threads=asked.threads,
                rate=asked.rate,
                settings=ClientSettings(deadline_s=asked.deadline),
            ) as callers,
        ):
            time.sleep(asked.calm)
            first = time.monotonic()
            kills = []
            for number in range(min(asked.kills, MOST_KILLS)):
                kills.append(kill_once(service, callers, number, asked.calm))
                print(f"kill {number + 1}: {kills[-1]}", flush=True)
    return kills, callers, first


def picture(kills: list[Kill], callers: Callers) -> str:
    """Show every call over time, as SVG."""
    began = min(call.at for call in callers.calls)
    answered = [call for call in callers.calls if not call.failure]
    return pictures.timeline(
        [call.at - began for call in answered],
        [call.took_s * 1e3 for call in answered],
        marks_s={
            "killed": [kill.at - began for kill in kills],
            "full capacity": [kill.at + kill.full_after_s - began for kill in kills],
        },
        failed_s=[call.at - began for call in callers.calls if call.failure],
    )


def report(kills: list[Kill], callers: Callers, first: float, asked: argparse.Namespace) -> list[str]:
    before = callers.since(0.0, first)
    calls, failed = len(callers.calls), [call for call in callers.calls if call.failure]
    rows = [
        ("calls that failed after the client's retries", f"{len(failed)} of {calls:,}", "0"),
        ("slowest return to full capacity", f"{max(kill.full_after_s for kill in kills):.1f} s", "<= 15 s"),
    ]
    each = (
        (number, f"{kill.full_after_s:.1f}", *kill[2:6], f"{kill.p99_ms:.0f}", f"{kill.slowest_ms:.0f}")
        for number, kill in enumerate(kills, start=1)
    )
    return [
        "# Killing replicas under load",
        "",
        page.conditions("chaos_replicas.py", f"--bundle BUNDLE --kills {len(kills)} --rate {asked.rate:g}"),
        f"{REPLICAS} replicas, {asked.threads} threads that share one client with {asked.deadline:g} s "
        f"for a call and default settings otherwise, {asked.rate:g} calls a second together, running before, "
        "during and after every kill.",
        "",
        *page.table(("what", "measured", "goal"), rows),
        "",
        *drawing.beside(asked.out, picture(kills, callers), "Every call over time, with the kills"),
        *page.table(_HEAD, each),
        "",
        f"Before the first kill: p50 {quantile_ms(before, 0.5):.0f} ms, p99 {quantile_ms(before, 0.99):.0f} ms.",
        "",
        *(f"- failed: {said}" for said in sorted({call.failure for call in failed})[:10]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rate", type=float, default=40.0, help="calls a second, all threads together")
    parser.add_argument("--deadline", type=float, default=3.0, help="seconds for a call, retries included")
    parser.add_argument("--calm", type=float, default=5.0, help="seconds of load before, and after each return")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    kills, callers, first = run(asked)
    page.publish(report(kills, callers, first, asked), asked.out)
    return 1 if any(call.failure for call in callers.calls) else 0


if __name__ == "__main__":
    raise SystemExit(main())
