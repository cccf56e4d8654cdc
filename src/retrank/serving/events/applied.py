"""Which records have reached the profiles, and the records of a writer that have not.

Each writer's folder holds a file `applied` with a number: every record below it has been applied. It is replaced by
rename without an fsync and may lag, which is harmless, because applying twice changes nothing. A folder without it
belongs to a writer that applies nothing (decisions, for instance).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from retrank.serving.events.folders import segments
from retrank.serving.events.records import EventRecord, decode_event
from retrank.serving.events.segment import SegmentReader

_FILE = "applied"


def read_applied(folder: Path) -> int | None:
    """Return how far the records of a writer have been applied; None when nobody applies them."""
    try:
        return int((folder / _FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:  # cannot happen by a crash, since the file is replaced whole; start over, it does no harm
        return 0


def write_applied(folder: Path, below: int) -> None:
    """Note that every record below a number has been applied."""
    beside = folder / f".{_FILE}.{os.getpid()}"
    beside.write_text(f"{below}\n")
    beside.replace(folder / _FILE)


class Backlog:
    """Reads a writer's records from a number on, in portions, and goes on where it stopped when the log has grown."""

    def __init__(self, folder: Path, below: int) -> None:
        self.folder = folder
        self.below = below
        self._path: Path | None = None
        self._position = 0

    def read(self, limit: int, end: int | None = None) -> list[EventRecord]:
        """Return at most `limit` records that follow, with numbers below `end`; [] when there are no more for now.

        Raises:
            CorruptSegment: acknowledged data is damaged.
        """
        found: list[EventRecord] = []
        for record, position in self._records():
            if end is not None and record.n >= end:
                break
            self._position = position
            if record.n >= self.below:
                found.append(record)
                self.below = record.n + 1
                if len(found) == limit:
                    break
        return found

    def _records(self) -> Iterator[tuple[EventRecord, int]]:
        for path in self._paths():
            if path != self._path:
                self._path, self._position = path, 0
            reader = SegmentReader(path, self._position)
            with suppress(FileNotFoundError):  # compacted meanwhile, so every record of it has been applied
                for raw in reader:
                    yield decode_event(raw), reader.position

    def _paths(self) -> list[Path]:
        """Return the segments to read; those that end below what is wanted are left out."""
        found = segments(self.folder)
        if self._path is not None:
            return [path for path in found if path >= self._path]
        starts = [_first_number(path) for path in found[1:]]
        skipped = sum(1 for start in starts if start is not None and start <= self.below)
        return found[skipped:]


def _first_number(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return next((decode_event(raw).n for raw in SegmentReader(path)), None)
    return None
