"""Memory of other processes as Linux accounts it; for benchmarks."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def proportional_bytes(pids: Sequence[int]) -> int:
    """Return the proportional set size of some processes: a page that n processes map counts 1/n for each."""
    return sum(_field(pid, "Pss") for pid in pids)


def anonymous_bytes(pids: Sequence[int]) -> int:
    """Return the memory of some processes that no file backs, each its own."""
    return sum(_field(pid, "Anonymous") for pid in pids)


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no line {name!r}")


def descendants(root: int) -> dict[int, str]:
    """Return a process and everything it started, with their command lines."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    family = [root]
    for pid in family:
        family.extend(children.get(pid, []))
    names = {}
    for pid in family:
        with suppress(OSError):  # ended since it was listed
            names[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return names
