"""Measure `POST /v1/recommend` under closed-loop load, one number of replicas against another in alternating rounds.

    python scripts/bench_serving.py --bundle bundles/online_retail_sasrec --out docs/benchmarks/serving.md

Every service runs as a process of its own, as does this generator: raw sockets with kept-alive connections, each of
which sends the next request when the answer to the last one is complete. Everything stays on the loopback interface.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from retrank.contract.api import RecommendRequest
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

READY_S = 240.0
K = 10
NUM_BODIES = 2_000


@dataclass
class Load:
    """What one cell of the table saw."""

    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    replica_cpu_s: float = 0.0
    proxy_cpu_s: float = 0.0
    generator_cpu_s: float = 0.0

    def row(self, replicas: int, concurrency: int) -> str:
        count = len(self.latencies_s)
        p50, p99 = (float(np.percentile(self.latencies_s, q)) * 1e3 for q in (50, 99))
        cpu = [1e3 * seconds / count for seconds in (self.replica_cpu_s, self.proxy_cpu_s, self.generator_cpu_s)]
        cells = [f"{p50:.1f}", f"{p99:.1f}", f"{count / self.seconds:.0f}", *(f"{one:.2f}" for one in cpu)]
        return f"| {replicas} | {concurrency} | {count:,} | " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Service:
    port: int
    replicas: int
    root_pid: int

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU seconds of the replicas and of the proxy so far; HAProxy reloads as a new process."""
        names = _descendants(self.root_pid)
        replicas = [pid for pid, name in names.items() if name.startswith("ray::ServeReplica")]
        proxies = [pid for pid, name in names.items() if "/haproxy -db" in name or "ray::ProxyActor" in name]
        assert len(replicas) == self.replicas, f"{len(replicas)} replicas found, {self.replicas} asked for: {names}"
        return _cpu_s(replicas), _cpu_s(proxies)


def main() -> None:
    arguments = _arguments()
    bodies = _bodies(arguments.bundle)
    loads: dict[tuple[int, int], Load] = {}
    with ExitStack() as stack:
        services = [stack.enter_context(_service(arguments.bundle, count)) for count in arguments.replicas]
        for service in services:
            asyncio.run(_drive(service.port, bodies, concurrency=8, seconds=10.0))  # warm; HAProxy settles
        for number in range(arguments.rounds):
            for concurrency in arguments.concurrency:
                for service in services:
                    load = loads.setdefault((service.replicas, concurrency), Load())
                    _measure(service, bodies, load, concurrency=concurrency, seconds=arguments.seconds)
                    print(f"round {number + 1}: {load.row(service.replicas, concurrency)}", flush=True)
    text = _report(arguments, loads)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds per cell")
    parser.add_argument("--seconds", type=float, default=5.0, help="per cell and round, at most 30")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    arguments.seconds = min(arguments.seconds, 30.0)
    return arguments


def _bodies(bundle: Path) -> list[bytes]:
    """Return requests for known users, drawn evenly; the whole history of each is read."""
    users = Vocab.read(current(bundle) / "users.parquet", "user_id")
    drawn = np.random.default_rng(0).integers(1, len(users) + 1, NUM_BODIES)
    requests = [RecommendRequest(user_id=users.id(int(row)), k=K) for row in drawn]
    return [request.model_dump_json(exclude_defaults=True).encode() for request in requests]


@contextmanager
def _service(bundle: Path, replicas: int) -> Iterator[Service]:
    port = free_port()
    overrides = [
        f"bundle={bundle}",
        f"serving.port={port}",
        f"serving.replicas={replicas}",
        f"serving.ready_timeout_s={READY_S:g}",
        "serving.admin.enabled=false",
    ]
    command = [sys.executable, "-m", "retrank.cli", "serve", *overrides]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                print(f"[{replicas}] {line}", end="", flush=True)
                if line.startswith("ready on"):
                    break
            else:
                raise SystemExit(f"the service with {replicas} replica(s) did not start")
            yield Service(port, replicas, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            if process.stdout is not None:
                process.stdout.read()  # until it has said its last word


def _measure(service: Service, bodies: Sequence[bytes], load: Load, *, concurrency: int, seconds: float) -> None:
    before = *service.cpu_s(), time.process_time()
    started = time.perf_counter()
    load.latencies_s += asyncio.run(_drive(service.port, bodies, concurrency=concurrency, seconds=seconds))
    load.seconds += time.perf_counter() - started
    after = *service.cpu_s(), time.process_time()
    load.replica_cpu_s += after[0] - before[0]
    load.proxy_cpu_s += after[1] - before[1]
    load.generator_cpu_s += after[2] - before[2]


async def _drive(port: int, bodies: Sequence[bytes], *, concurrency: int, seconds: float) -> list[float]:
    """Return the latency of every answer; anything but a 200 ends the run."""
    deadline = time.perf_counter() + seconds
    workers = [_connection(port, bodies[worker::concurrency], deadline) for worker in range(concurrency)]
    return [latency for found in await asyncio.gather(*workers) for latency in found]


async def _connection(port: int, bodies: Sequence[bytes], deadline: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    requests = [_request(port, body) for body in bodies]
    latencies = []
    turn = 0
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        writer.write(requests[turn % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"expected a 200, got {head[:200]!r}")
        await reader.readexactly(_content_length(head))
        latencies.append(time.perf_counter() - started)
        turn += 1
    writer.close()
    await writer.wait_closed()
    return latencies


def _request(port: int, body: bytes) -> bytes:
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[start : lower.index(b"\r\n", start)])


def _cpu_s(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _descendants(root: int) -> dict[int, str]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    family = [root]
    for pid in family:
        family.extend(children.get(pid, []))
    names = {}
    for pid in family:
        with suppress(FileNotFoundError, ProcessLookupError):  # ended since it was listed
            names[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return names


def _report(arguments: argparse.Namespace, loads: dict[tuple[int, int], Load]) -> str:
    bundle = current(arguments.bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    data, encoder = manifest["data"], manifest["encoder"]
    command = f"python scripts/bench_serving.py --bundle {arguments.bundle} --rounds {arguments.rounds}"
    lines = [
        "# Serving: requests per second and latency",
        "",
        f"`{command} --seconds {arguments.seconds:g}`",
        "",
        f"- {os.cpu_count()} cores ({platform.machine()}), shared by the generator, HAProxy, Ray and the replicas; "
        f"load average at the end {os.getloadavg()[0]:.1f}",
        f"- Python {platform.python_version()}, "
        + ", ".join(f"{n} {version(n)}" for n in ("ray", "onnxruntime", "faiss-cpu")),
        f"- bundle {bundle.name}: {manifest['model']}, {data['name']}, {data['num_items']:,} items, "
        f"{data['num_users']:,} users, width {encoder['width']}, up to {encoder['max_length']} events, "
        f"index {manifest['index']['factory']}",
        f"- `POST /v1/recommend` for known users, k = {K}, reasons included; closed loop on kept-alive connections; "
        f"{arguments.rounds} rounds of {arguments.seconds:g} s per cell, services taking turns",
        "",
        "| replicas | connections | requests | p50 ms | p99 ms | requests/s | CPU ms/request: replicas | proxy "
        "| generator |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(load.row(*cell) for cell, load in sorted(loads.items())),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
