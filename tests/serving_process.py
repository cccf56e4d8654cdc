"""A service started as a person would start it, and a look at its processes through /proc."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retrank.serving.ingress import free_port

READY_S = 180.0
STOP_S = 60.0
_LISTEN = "0A"
_LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    port: int
    pid: int

    def processes(self) -> dict[int, str]:
        """Return its processes and their names."""
        return {pid: _name(pid) for pid in _descendants(self.pid)}


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "retrank.cli", "serve", *overrides]


@contextmanager
def running(bundle: Path, *overrides: str, replicas: int, log: Path) -> Iterator[Service]:
    """Start `retrank serve`, yield it once it is ready, stop it with SIGTERM and see that nothing is left."""
    port = free_port()
    own = (f"serving.admin.port={free_port()}", f"serving.state.url=sqlite:{log.parent / 'state.sqlite'}")
    arguments = command(f"bundle={bundle}", f"serving.port={port}", f"serving.replicas={replicas}", *own, *overrides)
    with log.open("w") as output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
        try:
            wait_until_ready(process, log)
            yield Service(f"http://127.0.0.1:{port}", port, process.pid)
        finally:
            family = _descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            status = process.wait(STOP_S)
    assert status == 0, log.read_text()
    assert "raylet" not in log.read_text(), "a clean end alarms nobody"
    assert _settled(family) == {}


def outside_listeners(pids: Iterator[int] | list[int]) -> list[str]:
    """Return the TCP addresses (as /proc shows them) on which processes listen beyond this machine."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].rpartition(":")[0]
            if fields[3] == _LISTEN and fields[9] in inodes and address not in _LOOPBACK:
                found.append(fields[1])
    return found


def mapped_files(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a service says that it is ready; fail with its log when it ends first, or never does."""
    deadline = time.monotonic() + READY_S
    while "ready on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def _settled(family: list[int]) -> dict[int, str]:
    """Give ended processes a moment to disappear; return those that stay."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        left = {pid: _name(pid) for pid in family if _name(pid)}
        if not left:
            return {}
        time.sleep(0.2)
    return left


def _descendants(root: int) -> list[int]:
    parents = {int(entry.name): _parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
    family = [root]
    for pid in family:
        family.extend(child for child, parent in parents.items() if parent == pid)
    return family


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _name(pid: int) -> str:
    """Return the command line; "" for a process that ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _sockets(pid: int) -> list[str]:
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(handle.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(target[len("socket:[") : -1])
    return found
