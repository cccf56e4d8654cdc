"""Folders of the log: `<directory>/<stream>/<writer>/<number>.seg`, one folder per writer, held by a lock.

A writer is one process at one time. It holds an exclusive `flock` on `lock` in its folder, which the kernel lets go
when the process ends, however it ends (a child that was forked from it must have ended too): a folder whose lock is
free belongs to a writer that is gone, and nobody will ever write there again. A folder appears under its name only once
its lock is held.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from retrank.serving.events.segment import SUFFIX, is_sealed

STREAMS = ("events", "decisions", "rejected", "erasures")
_LOCK = "lock"
_NEW = ".new-"


def claim(stream: Path, now: float) -> tuple[Path, int]:
    """Make the folder of a new writer.

    Returns:
        The folder, and the descriptor that holds its lock; closing it, or dying, abandons the folder.

    Raises:
        OSError: the folder cannot be made.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%f")
    name = f"{moment}-{os.getpid()}-{secrets.token_hex(4)}"
    stream.mkdir(parents=True, exist_ok=True)
    hidden = stream / f"{_NEW}{name}"
    hidden.mkdir()
    descriptor = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = hidden.rename(stream / name)
        sync_folder(stream)
    except OSError:
        os.close(descriptor)
        raise
    return folder, descriptor


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold the folder of a writer that is gone; yields False when the writer lives or somebody else holds it."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Tell whether the writer of a folder is gone."""
    with held(folder) as mine:
        return mine


def writers(stream: Path) -> list[Path]:
    """Return the folders of all writers of a stream, oldest first."""
    if not stream.is_dir():
        return []
    return sorted(path for path in stream.iterdir() if path.is_dir() and not path.name.startswith("."))


def segments(folder: Path) -> list[Path]:
    """Return the segments of a writer, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def closed_segments(folder: Path) -> list[Path]:
    """Return the segments that nobody writes any more: all but the one that a living writer has not sealed yet."""
    gone = is_abandoned(folder)  # asked first: a writer that dies in between only delays its newest segment
    found = segments(folder)
    return found if gone or not found or is_sealed(found[-1]) else found[:-1]


def remove_abandoned(folder: Path) -> None:
    """Remove the folder of a writer that is gone, if it holds no segment."""
    with held(folder) as mine:
        if mine and not segments(folder):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a crash, sees the old content or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
