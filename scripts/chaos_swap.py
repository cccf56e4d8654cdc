"""Swap bundles under load and count what goes wrong: failed requests, mixed answers, latency, memory, rollback time.

    python scripts/make_big_bundle.py --items 200000 --prefix a --seed 0 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix b --seed 1 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix c --seed 2 --out bundles/chaos
    python scripts/chaos_swap.py --bundles bundles/chaos --out docs/benchmarks/swap.md

Starts `retrank serve` with two replicas on the loopback interface, finds its peak with a closed loop, then sends an
open loop of Poisson arrivals at 70 % of it: first without swaps, then while bundles are activated in turn. With three
of them the next one is never in memory, so every swap loads. Their catalogues have no item in common, so an answer
that names one bundle and holds an item of another is seen. Latency counts from the moment a request was due, so a
stall is not hidden. The service is watched (status, memory) at the same pace in both phases. Bounded: about three
minutes.
"""

import argparse
import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from process_memory import descendants, proportional_bytes
from stress import drawing, page, pictures
from stress.swap_load import CONNECTIONS, Tally, Users, closed_loop, open_loop

from retrank.contract.bundle import ITEM_VOCAB, describe
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

READY_S = 300.0
MOST_S = 600.0
SAMPLE_S = 0.5
POLL_S = 0.1


class Service(NamedTuple):
    """A running service, and who asks it."""

    users: Users
    admin: httpx.Client
    root_pid: int

    def replicas(self) -> list[int]:
        return [pid for pid, name in descendants(self.root_pid).items() if name.startswith("ray::ServeReplica")]


class MemorySampler(threading.Thread):
    """Adds up the proportional memory of the replicas twice a second; the highest sum is kept."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._pids, self._stop_asked = service.replicas(), threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._stop_asked.wait(SAMPLE_S):
            with suppress(OSError):  # the service may be on its way out
                self.peak = max(self.peak, proportional_bytes(self._pids))

    def stop(self) -> int:
        self._stop_asked.set()
        self.join()
        return self.peak


@contextmanager
def running(root: Path, names: list[str], replicas: int) -> Iterator[Service]:
    """Start the service on the first bundle and stop it at the end."""
    letters = {name: Vocab.open(root / name, ITEM_VOCAB).id(1)[0] for name in names}
    num_users = min(describe(root / name)[1].data.num_users for name in names)
    port, admin_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"bundle={root / names[0]}",
            f"serving.port={port}",
            f"serving.admin.port={admin_port}",
            f"serving.replicas={replicas}",
            f"serving.ready_timeout_s={READY_S:g}",
            f"serving.state.url=sqlite:{folder}/state.sqlite",
        ]
        command = [sys.executable, "-m", "retrank.cli", "serve", *overrides]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    print(line, end="", flush=True)
                    if line.startswith("ready on"):
                        break
                else:
                    raise SystemExit("the service did not start")
                with httpx.Client(base_url=f"http://127.0.0.1:{admin_port}", timeout=30.0) as admin:
                    yield Service(Users(port, letters, num_users), admin, process.pid)
            finally:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=60)


def order(service: Service, action: str, **body: Any) -> float:
    """Give an order and return the seconds until every replica has carried it out."""
    started = time.perf_counter()
    answer = service.admin.post(f"/admin/v1/bundles:{action}", json=body)
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"{action} {body}: {answer.text}")
    wanted = answer.json()["desired"]
    while time.perf_counter() < started + READY_S:
        status = service.admin.get("/admin/v1/status").json()
        replicas = status["replicas"].values()
        if status["desired"]["generation"] != wanted["generation"]:
            raise SystemExit(f"{action} was taken back: {status['desired']['audit'][-1]}")
        staged = {one["id"] for one in wanted["staged"]}
        held = all(staged <= {*one["verified"], *one["resident"]} for one in replicas)
        if status["converged"] and (action != "stage" or held):
            return time.perf_counter() - started
        time.sleep(POLL_S)
    raise SystemExit(f"{action} {body}: not on every replica after {READY_S:g} s")


class Findings(NamedTuple):
    """Everything the report says."""

    peak_rps: float
    before: Tally
    during: Tally
    swap_s: list[float]
    rollback_s: list[float]
    memory_before: int
    memory_peak: int
    swapped_at: list[float]
    rolled_back_at: list[float]


def send(users: Users, rate: float, seconds: float, tally: Tally, stop: threading.Event) -> None:
    asyncio.run(open_loop(users, rate, seconds, tally, stop))


def measure(service: Service, names: list[str], asked: argparse.Namespace) -> Findings:
    """Run all phases."""
    for name in names:
        order(service, "stage", source=name)
    asyncio.run(closed_loop(service.users, 5.0))  # warm
    peak = asyncio.run(closed_loop(service.users, asked.peak_s))
    rate = asked.load * peak
    print(f"peak {peak:.0f} requests/s; open loop at {rate:.0f}", flush=True)
    before, during, stop = Tally(), Tally(), threading.Event()
    memory_before = proportional_bytes(service.replicas())
    sampler = MemorySampler(service)
    sampler.start()
    load = threading.Thread(target=send, args=(service.users, rate, asked.base_s, before, stop))
    load.start()
    while load.is_alive():  # looked at as often as while bundles are swapped
        service.admin.get("/admin/v1/status").json()
        time.sleep(POLL_S)
    print(f"before: p50 {before.quantile_ms(0.5):.1f} ms, p99 {before.quantile_ms(0.99):.1f} ms", flush=True)
    load = threading.Thread(target=send, args=(service.users, rate, MOST_S, during, stop))
    load.start()
    swap_s, rollback_s, swapped_at, rolled_back_at = [], [], [], []
    try:
        for turn in range(1, asked.swaps + 1):
            swapped_at.append(time.perf_counter())
            swap_s.append(order(service, "activate", id=names[turn % len(names)]))
            print(f"swap {turn}: {swap_s[-1]:.2f} s, failed {len(during.failed)}, mixed {during.mixed}", flush=True)
            time.sleep(asked.pause_s)
        for _ in range(asked.rollbacks):  # back to the same bundle every time
            order(service, "activate", id=names[(asked.swaps + 1) % len(names)])
            rolled_back_at.append(time.perf_counter())
            rollback_s.append(order(service, "rollback", reason="chaos"))
            print(f"rollback: {rollback_s[-1]:.2f} s, failed {len(during.failed)}, mixed {during.mixed}", flush=True)
            time.sleep(asked.pause_s)
    finally:
        stop.set()
        load.join()
    moments = swapped_at, rolled_back_at
    return Findings(peak, before, during, swap_s, rollback_s, memory_before, sampler.stop(), *moments)


def conditions(found: Findings, names: list[str], asked: argparse.Namespace) -> list[str]:
    """Say how it was measured."""
    _, manifest = describe(asked.bundles / names[0])
    data, encoder = manifest.data, manifest.encoder
    size = sum(sealed.size for sealed in manifest.files.values())
    machine = (
        f"`python scripts/chaos_swap.py --bundles ROOT --swaps {asked.swaps}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{os.cpu_count()} cores ({platform.machine()}) for load generator, HAProxy, Ray, {asked.replicas} replicas; "
        f"load average {os.getloadavg()[0]:.1f} at the end, and whatever else ran shows in every latency."
    )
    bundles = (
        f"{len(names)} bundles with disjoint catalogues of {data.num_items:,} items, width {encoder.width}, "
        f"{data.num_users:,} users, {encoder.max_length} events each, {size / 1e6:,.0f} MB on disk, index "
        f"{manifest.index.factory}. Peak {found.peak_rps:.0f} requests/s in a closed loop, {CONNECTIONS} connections; "
        f"then Poisson arrivals at {asked.load:.0%} of that for {found.during.seconds:.0f} s. {asked.swaps} swaps, "
        f"{len(found.rollback_s)} rollbacks."
    )
    return [machine, "", bundles, ""]


def picture(found: Findings) -> str:
    """Show every request while bundles were swapped, as SVG."""
    during = found.during
    return pictures.timeline(
        [due - during.started for due in during.due_s],
        [second * 1e3 for second in during.latencies_s],
        marks_s={
            "swap ordered": [moment - during.started for moment in found.swapped_at],
            "rollback ordered": [moment - during.started for moment in found.rolled_back_at],
        },
        failed_s=[due - during.started for due in during.failed_due_s],
    )


def orders_with_failures(found: Findings) -> int:
    """Return upon how many orders a request failed, until the next one was given."""
    orders = np.sort([*found.swapped_at, *found.rolled_back_at])
    return len(set(np.searchsorted(orders, found.during.failed_due_s).tolist()))


def goals(found: Findings) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table."""
    during, before = found.during, found.before
    ratio, memory = during.quantile_ms(0.99) / before.quantile_ms(0.99), found.memory_peak / found.memory_before
    rollback_s = max(found.rollback_s, default=0.0)
    rows = [
        ("failed requests", f"{len(during.failed)} of {during.asked:,}", "0", not during.failed),
        ("of these, after one wait as told by `Retry-After`", f"{during.remaining}", "", None),
        ("answers with items of another bundle than they name", f"{during.mixed}", "0", during.mixed == 0),
        (
            "p99 during swaps / before",
            f"{during.quantile_ms(0.99):.1f} / {before.quantile_ms(0.99):.1f} ms = {ratio:.2f}x",
            "<= 1.5x",
            ratio <= 1.5,
        ),
        (
            "peak / steady memory of the replicas (PSS)",
            f"{found.memory_peak / 1e6:,.0f} / {found.memory_before / 1e6:,.0f} MB = {memory:.2f}x",
            "<= 2.1x",
            memory <= 2.1,
        ),
        ("slowest swap, order to every replica", f"{max(found.swap_s):.2f} s", "<= 30 s", max(found.swap_s) <= 30),
        ("slowest rollback", f"{rollback_s:.2f} s", "<= 5 s", rollback_s <= 5),
    ]
    return [(*row[:3], "" if row[3] is None else page.verdict(row[3])) for row in rows]


def report(found: Findings, names: list[str], asked: argparse.Namespace) -> list[str]:
    """Return the page."""
    during, before = found.during, found.before
    return [
        "# Swapping bundles under load",
        "",
        *conditions(found, names, asked),
        *page.table(("what", "measured", "goal", "reached"), goals(found)),
        "",
        *drawing.beside(asked.out, picture(found), "Every request over time, with the swaps"),
        f"Swaps took {np.median(found.swap_s):.2f} s (median), rollbacks "
        f"{np.median(found.rollback_s or [float('nan')]):.2f} s. p50 was "
        f"{before.quantile_ms(0.5):.1f} ms before and {during.quantile_ms(0.5):.1f} ms during.",
        "",
        f"Failed before any swap: {len(before.failed)} of {before.asked:,}. While bundles were swapped they fell upon "
        f"{orders_with_failures(found)} of {len(found.swapped_at) + len(found.rolled_back_at)} orders.",
        "",
        *(f"- failed: {count} x {said}" for said, count in during.reasons()[:10]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root that holds the bundles to swap between")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--rollbacks", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.7, help="share of the peak")
    parser.add_argument("--peak-s", type=float, default=8.0)
    parser.add_argument("--base-s", type=float, default=20.0)
    parser.add_argument("--pause-s", type=float, default=1.5, help="between swaps")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    asked.bundles = asked.bundles.resolve()
    names = sorted(one.name for one in asked.bundles.iterdir() if (one / "manifest.json").is_file())
    with running(asked.bundles, names, asked.replicas) as service:
        found = measure(service, names, asked)
    page.publish(report(found, names, asked), asked.out)


if __name__ == "__main__":
    main()
