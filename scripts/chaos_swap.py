"""Swap bundles under load and count what goes wrong: failed requests, mixed answers, latency, memory, rollback time.

    python scripts/make_big_bundle.py --items 200000 --prefix a --seed 0 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix b --seed 1 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix c --seed 2 --out bundles/chaos
    python scripts/chaos_swap.py --bundles bundles/chaos --out docs/benchmarks/swap.md

Starts `retrank serve` with two replicas on the loopback interface, finds its peak with a closed loop, then sends an
open loop of Poisson arrivals at 70 % of it: first without swaps, then while bundles are activated in turn. With three
of them the next one is never in memory, so every swap loads. Their catalogues have no item in common, so an answer
that names one bundle and holds an item of another is seen. Latency counts from the moment a request was due, so a stall
is not hidden. Bounded: about three minutes.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from process_memory import descendants, proportional_bytes
from stress import drawing, page, pictures

from retrank.contract.bundle import ITEM_VOCAB, describe
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

READY_S = 300.0
TIMEOUT_S = 10.0
CONNECTIONS = 32
SAMPLE_S = 0.5
_NAMES = re.compile(rb'"bundle":\{"id":"([0-9a-f]{16})"')
_ITEM = re.compile(rb'"item_id":"(.)')


@dataclass
class Tally:
    """What the load generator saw in one phase."""

    latencies_s: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    """When each of them was due, as `started`."""
    failed_due_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    mixed: int = 0
    by_bundle: dict[str, int] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.latencies_s, share)) * 1e3 if self.latencies_s else float("nan")


class Service(NamedTuple):
    """A running service, the first letter of the items of each bundle, and how many users all of them know."""

    port: int
    admin: httpx.Client
    root_pid: int
    letters: dict[str, str]
    num_users: int

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


async def closed_loop(service: Service, seconds: float) -> float:
    """Return requests per second with every connection busy."""
    tally, until = Tally(), time.perf_counter() + seconds

    async def busy(number: int) -> None:
        connection = _Connection(service)
        turn = number
        while time.perf_counter() < until:
            await connection.ask(turn, time.perf_counter(), tally)
            turn += CONNECTIONS
        connection.close()

    await asyncio.gather(*(busy(number) for number in range(CONNECTIONS)))
    return len(tally.latencies_s) / seconds


async def open_loop(service: Service, rate: float, seconds: float, tally: Tally, stop: threading.Event) -> None:
    """Send Poisson arrivals for some seconds, or until told to stop; a pool of connections carries them."""
    rng = np.random.default_rng(0)
    due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()

    async def carry() -> None:
        connection = _Connection(service)
        while (one := await due.get()) is not None:
            await connection.ask(*one, tally)
        connection.close()

    carriers = [asyncio.create_task(carry()) for _ in range(CONNECTIONS)]
    tally.started = at = time.perf_counter()
    number = 0
    while at < tally.started + seconds and not stop.is_set():
        at += rng.exponential(1 / rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        due.put_nowait((number, at))
        number += 1
    for _ in carriers:
        due.put_nowait(None)
    await asyncio.gather(*carriers)
    tally.seconds = time.perf_counter() - tally.started


class _Connection:
    """One kept-alive connection; a broken one is counted and opened again."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, number: int, due: float, tally: Tally) -> None:
        body = json.dumps({"user_id": f"u{number % self._service.num_users + 1:07d}", "k": 20}).encode()
        try:
            answer = await asyncio.wait_for(self._exchange(body), TIMEOUT_S)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            tally.failed.append(f"{type(error).__name__}: {error}"[:200])
            tally.failed_due_s.append(due)
            self.close()
            return
        tally.latencies_s.append(time.perf_counter() - due)
        tally.due_s.append(due)
        named = _NAMES.search(answer)
        name = named[1].decode() if named else ""
        tally.by_bundle[name] = tally.by_bundle.get(name, 0) + 1
        letters = {letter.decode() for letter in _ITEM.findall(answer)}
        tally.mixed += letters != {self._service.letters.get(name)}

    async def _exchange(self, body: bytes) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._service.port)
        reader, writer = self._streams
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", answer)
        content = await reader.readexactly(int(length[1]) if length else 0)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"{answer[:30]!r} {content[:100]!r}")
        return content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


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
                    yield Service(port, admin, process.pid, letters, num_users)
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
        time.sleep(0.05)
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


def measure(service: Service, names: list[str], asked: argparse.Namespace) -> Findings:
    """Run all phases."""
    for name in names:
        order(service, "stage", source=name)
    asyncio.run(closed_loop(service, 5.0))  # warm
    peak = asyncio.run(closed_loop(service, asked.peak_s))
    rate = asked.load * peak
    print(f"peak {peak:.0f} requests/s; open loop at {rate:.0f}", flush=True)
    before, during = Tally(), Tally()
    memory_before = proportional_bytes(service.replicas())
    asyncio.run(open_loop(service, rate, asked.base_s, before, threading.Event()))
    print(f"before: p50 {before.quantile_ms(0.5):.1f} ms, p99 {before.quantile_ms(0.99):.1f} ms", flush=True)
    sampler, stop = MemorySampler(service), threading.Event()
    sampler.start()
    load = threading.Thread(target=lambda: asyncio.run(open_loop(service, rate, 600.0, during, stop)))
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


def report(found: Findings, names: list[str], asked: argparse.Namespace) -> list[str]:
    """Return the page."""
    during, before = found.during, found.before
    ratio, memory = during.quantile_ms(0.99) / before.quantile_ms(0.99), found.memory_peak / found.memory_before
    slowest_rollback = max(found.rollback_s, default=0.0)
    rows = [
        ("failed requests", f"{len(during.failed)} of {len(during.latencies_s):,}", "0", not during.failed),
        ("answers with items of another bundle than they name", during.mixed, "0", during.mixed == 0),
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
        ("slowest rollback", f"{slowest_rollback:.2f} s", "<= 5 s", slowest_rollback <= 5),
    ]
    return [
        "# Swapping bundles under load",
        "",
        *conditions(found, names, asked),
        *page.table(("what", "measured", "goal", "reached"), ((*row[:3], page.verdict(row[3])) for row in rows)),
        "",
        *drawing.beside(asked.out, picture(found), "Every request over time, with the swaps"),
        f"Swaps took {np.median(found.swap_s):.2f} s (median), rollbacks "
        f"{np.median(found.rollback_s or [float('nan')]):.2f} s. p50 was "
        f"{before.quantile_ms(0.5):.1f} ms before and {during.quantile_ms(0.5):.1f} ms during.",
        "",
        *(f"- failed: {said}" for said in sorted(set(during.failed))[:10]),
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
