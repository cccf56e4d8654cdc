"""Brings logged events to a profile store again: after it was lost, or to fill a new one. And dead letters.

Applying is idempotent, so a replay may overlap with a running service and may be repeated. What the store bounds by
age or by number it bounds here too.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from retrank.contract.events import EventBatch, EventReceipt
from retrank.serving.events.applier import apply_changes
from retrank.serving.events.erasures import read_erasures
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.intake import Intake
from retrank.serving.events.records import Change, DeadLetter, Erasures, decode_event
from retrank.serving.events.segment import SegmentReader
from retrank.serving.events.tables import date_of, published_files, read_columns
from retrank.serving.stores.protocol import LiveEvent, PersonEvent, Profiles

_GROUP = 1_000
_COLUMNS = ["tenant", "person", "event_id", "type", "name", "item_id", "session_id", "at", "arrived_at"]


class Replayed(NamedTuple):
    """What a replay did: events read, and how many of them the store did not have."""

    read: int
    new: int


def replay(directory: Path, root: Path, profiles: Profiles, *, since_us: int = 0, now: Callable[[], float]) -> Replayed:
    """Apply every event that arrived at or after a moment: the published ones by date, then those still in segments.

    Args:
        directory: of the log.
        root: of the partitions.
        profiles: where to.
        since_us: microseconds since the Unix epoch.
        now: seconds since the Unix epoch.

    Raises:
        StoreUnavailable: run it again.
        CorruptSegment, SourceError: a file is damaged; everything before it has been applied.
    """
    erasures = read_erasures(directory)
    read = new = 0
    changes = _kept(_published(root, since_us), _logged(directory), erasures, since_us)
    while group := list(islice(changes, _GROUP)):
        read += len(group)
        new += apply_changes(profiles, group, now())
    return Replayed(read, new)


def dead_letters(directory: Path) -> Iterator[DeadLetter]:
    """Yield the refused events that are still kept, oldest first per writer."""
    for folder in writers(directory / "rejected"):
        for path in segments(folder):
            yield from (DeadLetter.model_validate_json(raw) for raw in SegmentReader(path))


def resubmit(letters: Iterable[DeadLetter], intake: Intake) -> EventReceipt:
    """Send refused events again, for instance when the rule that refused them has changed.

    What is refused again becomes a dead letter again; what was taken meanwhile is a duplicate.

    Raises:
        LogUnavailable: some may have been taken; run it again.
    """
    accepted = duplicates = 0
    rejected = []
    for letter in letters:
        if letter.raw is not None:
            receipt = intake.begin(EventBatch(events=[letter.raw]), letter.tenant).result()
            accepted, duplicates = accepted + receipt.accepted, duplicates + receipt.duplicates
            rejected += receipt.rejected
    return EventReceipt(accepted=accepted, duplicates=duplicates, rejected=rejected)


def _kept(published: Iterator[Change], logged: Iterator[Change], erasures: Erasures, since_us: int) -> Iterator[Change]:
    for source in (published, logged):
        for change in source:
            if change.event is None or change.arrived_us < since_us:
                continue
            if not erasures.cover(change.tenant, change.event.person, change.arrived_us):
                yield change


def _published(root: Path, since_us: int) -> Iterator[Change]:
    first = date_of(since_us)
    for path in published_files(root):
        if path.parent.name.removeprefix("date=") >= first:
            table = read_columns(path, _COLUMNS)
            for name in ("at", "arrived_at"):
                table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
            for row in table.to_pylist():
                kind = row["name"] if row["type"] == "custom" else row["type"]
                event = LiveEvent(row["event_id"], kind, row["item_id"], row["at"], row["session_id"])
                yield Change(row["tenant"], row["arrived_at"], PersonEvent(row["person"], event))


def _logged(directory: Path) -> Iterator[Change]:
    for folder in writers(directory / "events"):
        for path in segments(folder):
            yield from (decode_event(raw).change() for raw in SegmentReader(path))
