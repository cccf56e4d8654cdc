"""Start the service and its peers as processes of their own, and stop them again."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from retrank.serving.ingress import free_port
from serve_bench import family

READY_S = 300.0
STOP_S = 60.0
_SETTLE_S = 3.0  # for one that stood still itself until now
_PEER = Path(__file__).with_name("three_deployments.py")


@dataclass(frozen=True)
class Service:
    """A running service: its name in tables, its port, its first process and its replicas at start."""

    name: str
    port: int
    root_pid: int
    num_replicas: int

    def cpu_s(self) -> tuple[float, float]:
        """Return the processor seconds of the replicas and of the proxies so far."""
        return family.cpu_s(family.replicas(self.root_pid)), family.cpu_s(family.proxies(self.root_pid))


class Turns:
    """One service at a time has the machine, the processes of all others are stopped.

    Idle, each of them takes a tenth of a core or more. Nobody is continued for a moment between two turns of others: it
    would find its own checks overdue and be stopped again before it has looked whether anything is wrong.
    """

    def __init__(self, standing: Sequence[Service]) -> None:
        """Stop them all; use it as a context, which continues them."""
        self._stopped = {one.name: family.stop(one.root_pid) for one in standing}

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *_: object) -> None:
        for pids in self._stopped.values():
            family.go_on(pids)

    @contextmanager
    def of(self, service: Service) -> Iterator[None]:
        """Let one go on meanwhile."""
        family.go_on(self._stopped.pop(service.name))
        time.sleep(_SETTLE_S)
        try:
            yield
        finally:
            self._stopped[service.name] = family.stop(service.root_pid)


@contextmanager
def retrank(
    bundle: Path, folder: Path, *, replicas: int = 1, overrides: Sequence[str] = (), name: str = "retrank"
) -> Iterator[Service]:
    """Run `retrank serve` with every default, its state under `folder`."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "retrank.cli", "serve", f"bundle={bundle.resolve()}", f"serving.port={port}"),
        *(f"serving.replicas={replicas}", f"serving.ready_timeout_s={READY_S:g}"),
        *(f"serving.admin.port={free_port()}", f"serving.service.folder={folder / 'state'}", *overrides),
    ]
    with _running(name, command, folder) as pid:
        yield Service(name, port, pid, replicas)


@contextmanager
def three_deployments(bundle: Path, folder: Path, *, throughput: bool) -> Iterator[Service]:
    """Run the straightforward application, on default settings or as fast as Serve can."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(_PEER), "--bundle", str(bundle.resolve()), "--port", str(port)]
    name = "three deployments, HAProxy and flags" if throughput else "three deployments, defaults"
    with _running(name, [*command, *(["--throughput"] if throughput else [])], folder) as pid:
        yield Service(name, port, pid, 3)


def ask(port: int, path: str, body: object) -> dict[str, object]:
    """Post JSON and return the JSON that comes back."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, object] = json.load(response)
        return found


@contextmanager
def _running(name: str, command: Sequence[str], folder: Path) -> Iterator[int]:
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, said), daemon=True).start()
        try:
            _await_ready(name, said)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    process.kill()


def _read(process: "subprocess.Popen[str]", said: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        said.put(line)
    said.put(None)


def _await_ready(name: str, said: "queue.Queue[str | None]") -> None:
    heard: list[str] = []
    while True:
        try:
            line = said.get(timeout=READY_S)
        except queue.Empty:
            raise SystemExit(f"{name} was not ready after {READY_S:g} s:\n{''.join(heard[-30:])}") from None
        if line is None:
            raise SystemExit(f"{name} did not start:\n{''.join(heard[-30:])}")
        heard.append(line)
        if line.startswith("ready on"):
            return
