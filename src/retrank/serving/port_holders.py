"""Who listens on a TCP port of this machine, and whether it is a HAProxy that outlived its service; by way of /proc.

A HAProxy of ours ends with the process of Ray that started it (`ingress`), a second or two after a service was killed
hard. One that nobody could tell, as the tool for it was missing, holds the port until the service is started again.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FOLDER_PREFIX = "retrank-"
"""How folders begin that `ingress` makes for the files of a HAProxy."""
_LISTEN = "0A"
_WORKER, _MANAGER = "ray::", "raylet"
_SHOWN = 200
_POLL_S = 0.05


class Holder(NamedTuple):
    """A process that listens: its id, its parent's, and the words it was started with."""

    pid: int
    parent: int
    command: tuple[str, ...]

    def __str__(self) -> str:
        """Name it for people."""
        return f"process {self.pid} ({' '.join(self.command)[:_SHOWN]})"


def holders(port: int) -> list[Holder]:
    """Return the processes that listen on a port, as far as this user may see them; none where there is no /proc."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return []
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [Holder(pid, _parent(pid), _command(pid)) for pid in pids if not sockets.isdisjoint(_open_files(pid))]


def is_left_behind(holder: Holder) -> bool:
    """Tell whether it is a HAProxy of ours whose service is gone.

    That of a living service is the child of a worker of Ray, and the worker that of Ray's node manager; a worker whose
    manager was killed lives on for a second or two.
    """
    words = holder.command
    config = Path(words[words.index("-f") + 1]) if "-f" in words[:-1] else Path()
    if not any(part.startswith(FOLDER_PREFIX) for part in config.parts[:-1]):
        return False
    worker, manager = _command(holder.parent)[:1], _command(_parent(holder.parent))[:1]
    return not (
        any(word.startswith(_WORKER) for word in worker) and any(Path(word).name == _MANAGER for word in manager)
    )


def end_left_behind(port: int, *, within_s: float, clock: Callable[[], float] = time.monotonic) -> list[Holder]:
    """End every HAProxy that a dead service left on a port; return those that are gone now.

    Args:
        port: where they listen.
        within_s: seconds to wait at most until they are gone.
        clock: monotonic seconds.
    """
    found = [holder for holder in holders(port) if is_left_behind(holder)]
    for holder in found:
        with suppress(OSError):  # another user's, or gone meanwhile
            os.kill(holder.pid, signal.SIGTERM)
    until = clock() + within_s
    while any(_command(holder.pid) for holder in found) and clock() < until:
        time.sleep(_POLL_S)
    return [holder for holder in found if not _command(holder.pid)]


def _listening(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):  # another user's, or gone meanwhile
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield str(handle.readlink())


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> tuple[str, ...]:
    """Return the words of a process; none once it ended, even when nobody waited for it."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0")
        return tuple(words.split("\0")) if words else ()
    return ()
