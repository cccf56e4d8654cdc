"""What a family of processes costs, read from /proc: processor time and memory, by role."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


def descendants(root: int) -> dict[int, str]:
    """Return the command line of a process and of everything it started, by process id."""
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


def stop(root: int) -> set[int]:
    """Stop a process and everything it started, parents first; return who was stopped, to be continued again."""
    stopped: set[int] = set()
    while found := [pid for pid in descendants(root) if pid not in stopped]:
        _signal(found, signal.SIGSTOP)
        stopped.update(found)  # whatever one of them started meanwhile is found the next time
    return stopped


def go_on(pids: Iterable[int]) -> None:
    """Continue processes that were stopped."""
    _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def replicas(root: int) -> list[int]:
    """Return the Serve replicas among the descendants."""
    return [pid for pid, name in descendants(root).items() if name.startswith("ray::ServeReplica")]


def proxies(root: int) -> list[int]:
    """Return HAProxy (which reloads as a new process) and Serve's own proxies among the descendants."""
    return [pid for pid, name in descendants(root).items() if "/haproxy -db" in name or "ray::ProxyActor" in name]


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor seconds that processes have used."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process in bytes, each shared page divided by those who share it (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _KIB
    raise LookupError(f"/proc/{pid}/smaps_rollup has no Pss")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """Return how many file descriptors a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
