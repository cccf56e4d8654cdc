"""Swap bundles under load and count what goes wrong: failed requests, mixed answers, latency, memory, rollback time.

    python scripts/make_big_bundle.py --items 200000 --prefix a --seed 0 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix b --seed 1 --out bundles/chaos
    python scripts/make_big_bundle.py --items 200000 --prefix c --seed 2 --out bundles/chaos
    python scripts/chaos_swap.py --bundles bundles/chaos --out docs/benchmarks/swap.md

Starts `retrank serve` with two replicas on the loopback interface, finds its peak with a closed loop, then sends an
open loop of Poisson arrivals at 70 % of it, while bundles are activated in turn, with a pause after each to compare
with. With three of them the next one is never in memory, so every swap loads. Their catalogues have no item in common,
so an answer that names one bundle and holds an item of another is seen. Latency counts from the moment a request was
due, so a stall is not hidden. The service is watched (status, memory) at the same pace throughout. Bounded: about ten
minutes.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from process_memory import descendants, proportional_bytes
from stress import swap_page
from stress.swap_load import Tally, Users, closed_loop, open_loop
from stress.swap_page import Findings, Order

from retrank.contract.bundle import ITEM_VOCAB, describe
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

READY_S = 300.0
MOST_S = 1_200.0
SAMPLE_S = 1.0
POLL_S = 0.25
QUICK_POLL_S = 0.02  # for what takes no load


class Service(NamedTuple):
    """A running service, and who asks it."""

    users: Users
    admin: httpx.Client
    root_pid: int

    def replicas(self) -> list[int]:
        return [pid for pid, name in descendants(self.root_pid).items() if name.startswith("ray::ServeReplica")]


class MemorySampler(threading.Thread):
    """Adds up the proportional memory of the replicas every second; the highest sum is kept."""

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
        time.sleep(POLL_S if action == "activate" else QUICK_POLL_S)
    raise SystemExit(f"{action} {body}: not on every replica after {READY_S:g} s")


def send(users: Users, rate: float, seconds: float, tally: Tally, stop: threading.Event) -> None:
    asyncio.run(open_loop(users, rate, seconds, tally, stop))


def measure(service: Service, names: list[str], asked: argparse.Namespace) -> Findings:
    """Find the peak, then give every order under one open loop, with pauses between them."""
    for name in names:
        order(service, "stage", source=name)
    asyncio.run(closed_loop(service.users, 5.0))  # warm
    peak = asyncio.run(closed_loop(service.users, asked.peak_s))
    rate = asked.load * peak
    print(f"peak {peak:.0f} requests/s; open loop at {rate:.0f}", flush=True)
    tally, stop, memory_before = Tally(), threading.Event(), proportional_bytes(service.replicas())
    sampler = MemorySampler(service)
    sampler.start()
    load = threading.Thread(target=send, args=(service.users, rate, MOST_S, tally, stop))
    load.start()
    orders: list[Order] = []
    try:
        watch(service, asked.base_s)
        for what, body in plan(names, asked):
            at = time.perf_counter()
            took_s = order(service, what, **body)
            orders.append(Order(what, at, took_s))
            print(f"{what}: {took_s:.2f} s, failed {len(tally.failed)}, mixed {tally.mixed}", flush=True)
            watch(service, asked.pause_s)
        if not load.is_alive():
            raise SystemExit(f"the load ended after {MOST_S:g} s, before the last order; ask for fewer swaps")
    finally:
        stop.set()
        load.join()
    return Findings(peak, tally, orders, memory_before, sampler.stop())


def plan(names: list[str], asked: argparse.Namespace) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the orders: swaps through all bundles in turn, then rollbacks, each from a bundle that had to be loaded."""
    for turn in range(1, asked.swaps + 1):
        yield "activate", {"id": names[turn % len(names)]}
    for turn in range(asked.rollbacks):  # what was rolled back stays in memory: each time it is another one
        yield "activate", {"id": names[(asked.swaps + 1 + turn % (len(names) - 1)) % len(names)]}
        yield "rollback", {"reason": "chaos"}


def watch(service: Service, seconds: float) -> None:
    """Look at the service as often as while an order is carried out, and give none."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        service.admin.get("/admin/v1/status").json()
        time.sleep(POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root that holds the bundles to swap between")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--rollbacks", type=int, default=3)
    parser.add_argument("--load", type=float, default=0.7, help="share of the peak")
    parser.add_argument("--peak-s", type=float, default=8.0)
    parser.add_argument("--base-s", type=float, default=20.0)
    parser.add_argument("--pause-s", type=float, default=10.0, help="after every order")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    asked.bundles = asked.bundles.resolve()
    names = sorted(one.name for one in asked.bundles.iterdir() if (one / "manifest.json").is_file())
    with running(asked.bundles, names, asked.replicas) as service:
        found = measure(service, names, asked)
    swap_page.publish(found, names, asked, asked.out)


if __name__ == "__main__":
    main()
