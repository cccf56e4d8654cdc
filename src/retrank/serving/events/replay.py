"""Brings logged events to a profile store again: after it was lost, or to fill a new one. And dead letters.

Applying is idempotent, so a replay may overlap with a running service and may be repeated. What the store bounds by
age or by number it bounds here too.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from retrank.contract.events import EventBatch, EventReceipt
from retrank.serving.events.changes import apply_changes
from retrank.serving.events.erasures import read_erasures
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.history import logged, published
from retrank.serving.events.intake import Intake
from retrank.serving.events.records import Change, DeadLetter, Erasures
from retrank.serving.events.segment import SegmentReader
from retrank.serving.stores.protocol import Profiles

_GROUP = 1_000


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
    changes = _kept(chain(published(root, since_us), logged(directory)), erasures, since_us)
    while group := list(islice(changes, _GROUP)):
        read += len(group)
        new += apply_changes(profiles, group, now())
    return Replayed(read, new)


def dead_letters(directory: Path) -> Iterator[DeadLetter]:
    """Yield the refused events that are still kept, oldest first per writer, but those of persons erased since."""
    erasures = read_erasures(directory)
    for folder in writers(directory / "rejected"):
        for path in segments(folder):
            letters = (DeadLetter.model_validate_json(raw) for raw in SegmentReader(path))
            yield from (one for one in letters if not erasures.cover(one.tenant, one.person, one.arrived_us))


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


def _kept(changes: Iterable[Change], erasures: Erasures, since_us: int) -> Iterator[Change]:
    for change in changes:
        if change.event is None or change.arrived_us < since_us:
            continue
        if not erasures.cover(change.tenant, change.event.person, change.arrived_us):
            yield change
