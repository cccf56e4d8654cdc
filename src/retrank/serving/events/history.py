"""Everything that was acknowledged and is still kept, as changes: what stands in segments, and what was published."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from retrank.serving.events.folders import segments, writers
from retrank.serving.events.records import Change, Erasures, decode_event
from retrank.serving.events.segment import CorruptSegment, SegmentReader
from retrank.serving.events.tables import ROOT_NAME, date_of, published_files, read_columns
from retrank.serving.stores.protocol import LiveEvent, PersonEvent

_LOG = logging.getLogger(__name__)
_COLUMNS = ["tenant", "person", "event_id", "type", "name", "item_id", "session_id", "at", "arrived_at"]


def published(root: Path, since_us: int) -> Iterator[Change]:
    """Yield the events of the partitions, from the day of a moment on.

    Raises:
        SourceError: a file is damaged.
    """
    first = date_of(since_us)
    for path in published_files(root):
        if path.parent.name.removeprefix("date=") >= first:
            table = read_columns(path, _COLUMNS)
            for name in ("at", "arrived_at"):
                table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
            for row in table.to_pylist():
                event = LiveEvent(row["event_id"], _kind(row), row["item_id"], row["at"], row["session_id"])
                yield Change(row["tenant"], row["arrived_at"], PersonEvent(row["person"], event))


def logged(directory: Path) -> Iterator[Change]:
    """Yield the changes in segments, writer by writer.

    Raises:
        CorruptSegment, DataError: a segment is damaged.
    """
    for folder in writers(directory / "events"):
        for path in segments(folder):
            yield from logged_in(path)


def logged_in(path: Path) -> Iterator[Change]:
    """Yield the changes of a segment."""
    return (decode_event(raw).change() for raw in SegmentReader(path))


def arrived_after(directory: Path, erased: Mapping[tuple[str, str], int], erasures: Erasures) -> list[Change]:
    """Return, by arrival, the events of persons that arrived after each was erased, whoever wrote them.

    Partitions are looked for in their usual place. A damaged segment is left out up to where it is damaged.

    Args:
        directory: of the log.
        erased: (tenant, person) -> when, in microseconds since the Unix epoch.
        erasures: everybody's.
    """
    found: list[Change] = []
    paths = [path for folder in writers(directory / "events") for path in segments(folder)]
    sources = [logged_in(path) for path in paths]  # before what is published: that is the way they go
    for source in [*sources, published(directory / ROOT_NAME, min(erased.values()))]:
        try:
            found += (change for change in source if _is_later(change, erased, erasures))
        except FileNotFoundError:  # compacted meanwhile, so it is published
            continue
        except CorruptSegment as error:
            _LOG.critical("events after an erasure cannot be read back: %s", error)
    return sorted(found, key=lambda change: change.arrived_us)


def _is_later(change: Change, erased: Mapping[tuple[str, str], int], erasures: Erasures) -> bool:
    if change.event is None:
        return False
    person = change.event.person
    since = erased.get((change.tenant, person))
    return (
        since is not None and change.arrived_us > since and not erasures.cover(change.tenant, person, change.arrived_us)
    )


def _kind(row: Mapping[str, str]) -> str:
    return row["name"] if row["type"] == "custom" else row["type"]
