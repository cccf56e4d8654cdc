"""Turns closed segments of the event log into Parquet that `retrank ingest data=parquet` reads.

What is published holds every acknowledged event once (DEDUP_DAYS, against everything published before) and no event of
a person that arrived before that person was erased. The job may be killed at any point and run again; see `publish`.
One runs at a time; a lock sees to it.

A segment is left for later when the profiles do not have all of it yet: they would be brought up to date from it. A
damaged segment is left too, whole: nothing of it is published, the job goes on with the others and ends with an error.
"""

import fcntl
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from retrank.contract.errors import DataError
from retrank.serving.events.applied import read_applied
from retrank.serving.events.erasures import Proof, newest, ordered, proofs
from retrank.serving.events.folders import STREAMS, closed_segments, remove_abandoned, writers
from retrank.serving.events.publish import Change, decide, finish, staging
from retrank.serving.events.records import Erasure, Erasures, EventRecord, decode_event, person_digest
from retrank.serving.events.segment import CorruptSegment, SegmentReader
from retrank.serving.events.tables import (
    ROOT_NAME,
    published_files,
    published_keys,
    read_columns,
    to_table,
    without_repetitions,
    write_table,
)

_PORTION_BYTES = 32 << 20


@dataclass
class Summary:
    """What a compaction did."""

    segments: int = 0
    read: int = 0
    published: int = 0
    repeated: int = 0
    erased: int = 0
    erasures_done: int = 0
    waiting: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return it in words."""
        return (
            f"{self.segments} segments, {self.read:,} events: {self.published:,} published, {self.repeated:,} "
            f"repeated, {self.erased:,} erased; {self.erasures_done} erasures done; {len(self.waiting)} segments wait "
            f"for the profiles, {len(self.damaged)} are damaged"
        )


def compact(
    directory: Path,
    root: Path | None = None,
    *,
    now: Callable[[], float],
    portion_bytes: int = _PORTION_BYTES,
    keep_s: float = 30 * 86_400.0,
) -> Summary:
    """Publish every closed segment and every erasure.

    Args:
        directory: of the log.
        root: of the partitions; None = `directory/parquet`.
        now: seconds since the Unix epoch, for the proof of erasures.
        portion_bytes: segments are published in portions of about that size, which bounds memory to some ten times it.
        keep_s: decisions and dead letters in closed segments go when nobody has written to those for that long.

    Raises:
        DataError: another compaction runs, or there is no log.
    """
    root = directory / ROOT_NAME if root is None else root
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder; expected the directory of an event log")
    root.mkdir(parents=True, exist_ok=True)
    summary = Summary()
    with _alone(root):
        finish(root, directory)
        closed = [path for folder in writers(directory / "erasures") for path in closed_segments(folder)]
        asked = ordered(directory)
        erasures = newest([*asked, *(line.erasure for line in proofs(directory))])
        _erase_published(_Places(directory, root, closed), asked, now, summary)
        for portion in _portions(directory, portion_bytes, summary):
            _publish(directory, root, portion, erasures, summary)
        for stream in ("decisions", "rejected"):
            _forget_old(directory / stream, now() - keep_s)
        for stream in STREAMS:
            remove_abandoned(directory / stream)
    return summary


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    descriptor = os.open(root / "_lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataError(f"{root}: another compaction is at work; wait for it") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _forget_old(stream: Path, before: float) -> None:
    for folder in writers(stream):
        for path in closed_segments(folder):
            if path.stat().st_mtime < before:
                path.unlink()


_Portion = list[tuple[Path, list[EventRecord]]]


def _portions(directory: Path, portion_bytes: int, summary: Summary) -> Iterator[_Portion]:
    """Yield closed segments and their records, some at a time."""
    portion: _Portion = []
    size = 0
    for folder in writers(directory / "events"):
        applied = read_applied(folder)  # before the segments are listed: it only grows
        for path in closed_segments(folder):
            records = _records(path, summary)
            if records is None:
                continue
            if applied is not None and records and records[-1].n >= applied:
                summary.waiting.append(path)
                continue
            portion.append((path, records))
            size += path.stat().st_size
            if size >= portion_bytes:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion


def _records(path: Path, summary: Summary) -> list[EventRecord] | None:
    try:
        return [decode_event(raw) for raw in SegmentReader(path)]
    except CorruptSegment as error:
        summary.damaged.append(str(error))
    except DataError as error:
        summary.damaged.append(f"{path}: {error}")
    return None


def _publish(directory: Path, root: Path, portion: _Portion, erasures: Erasures, summary: Summary) -> None:
    events = [record for _, records in portion for record in records if record.event is not None]
    alive = [r for r in events if r.event and not erasures.cover(r.tenant, r.event.person, r.arrived_us)]
    new = without_repetitions(alive, published_keys(root, alive))
    names = [str(path.relative_to(directory)) for path, _ in portion]
    part = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    files = {f"{partition}/{part}.parquet": to_table(rows) for partition, rows in new.items()}
    _change(directory, root, files, Change(files=sorted(files), emptied=[], segments=names, proofs=[]))
    num_new = sum(len(rows) for rows in new.values())
    summary.segments += len(portion)
    summary.read += len(events)
    summary.published += num_new
    summary.repeated += len(alive) - num_new
    summary.erased += len(events) - len(alive)


class _Places(NamedTuple):
    """Where the log and the partitions are, and which segments of erasures nobody writes any more."""

    directory: Path
    root: Path
    closed: Sequence[Path]


def _erase_published(places: _Places, asked: Sequence[Erasure], now: Callable[[], float], summary: Summary) -> None:
    """Rewrite the files that hold events of persons erased since the last time, and prove it."""
    directory, root, closed = places
    done = {line.erasure for line in proofs(directory)}
    due = sorted({erasure for erasure in asked if erasure not in done}, key=lambda erasure: erasure.erased_us)
    if not due and not closed:
        return
    erasures = newest(due)
    files: dict[str, pa.Table] = {}
    emptied: list[str] = []
    removed: dict[str, int] = defaultdict(int)
    touched: dict[str, list[str]] = defaultdict(list)
    for path in published_files(root) if due else []:
        name = str(path.relative_to(root))
        goes, by_person = _erased_rows(read_columns(path, ["tenant", "person", "arrived_at"]), erasures)
        if not by_person:
            continue
        for person, count in by_person.items():
            removed[person] += count
            touched[person].append(name)
        rest = read_columns(path).filter(pc.invert(goes))
        if rest.num_rows:
            files[name] = rest
        else:
            emptied.append(name)
    moment = int(now() * 1e6)
    names = [str(path.relative_to(directory)) for path in closed]
    lines = [
        Proof(
            **erasure.model_dump(),
            removed_at_us=moment,
            events_removed=removed.pop(erasure.person_sha256, 0),
            files_rewritten=touched.pop(erasure.person_sha256, []),
        )
        for erasure in reversed(due)  # of several erasures of a person the newest is the one that found something
    ]
    _change(directory, root, files, Change(files=sorted(files), emptied=emptied, segments=names, proofs=lines))
    summary.erasures_done += len(due)


def _erased_rows(table: pa.Table, erasures: Erasures) -> tuple[pa.Array, dict[str, int]]:
    """Return a mask of the rows that go, and how many of which person."""
    arrivals = table["arrived_at"].cast(pa.int64()).to_pylist()
    digests: dict[tuple[str, str], str] = {}
    goes: list[bool] = []
    count: dict[str, int] = defaultdict(int)
    for tenant, person, arrived_us in zip(
        table["tenant"].to_pylist(), table["person"].to_pylist(), arrivals, strict=True
    ):
        digest = digests.setdefault((tenant, person), "") or person_digest(tenant, person)
        digests[tenant, person] = digest
        goes.append(arrived_us <= erasures.newest.get(digest, -1))
        if goes[-1]:
            count[digest] += 1
    return pa.array(goes, pa.bool_()), dict(count)


def _change(directory: Path, root: Path, files: dict[str, pa.Table], change: Change) -> None:
    folder = staging(root)
    for name, table in files.items():
        write_table(table, folder / name)
    decide(root, change)
    finish(root, directory)
