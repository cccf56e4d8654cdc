"""Records that are durable but have not reached the profiles: one's own after an outage, and those of writers gone."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retrank.serving.events.applied import Backlog, read_trusted, write_applied
from retrank.serving.events.changes import apply_changes
from retrank.serving.events.erasures import erasures_version, read_erasures
from retrank.serving.events.folders import held, segments, writers
from retrank.serving.events.history import arrived_after
from retrank.serving.events.records import Change, Erasures, EventRecord
from retrank.serving.stores.protocol import Profiles

_NOBODY = ".nobody"
_PORTION = 2_000


class Recovery:
    """Hands out such records in portions, without those of persons who were erased since.

    Args:
        folder: of one's own writer, below the stream.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._stream = folder, folder.parent
        self._own: Backlog | None = None
        self._left: Backlog | None = None
        self._finished: set[Path] = {folder}
        self._known_erasures, self._version = Erasures({}), ""

    @property
    def is_open(self) -> bool:
        """Whether a writer that is gone has been begun and not finished."""
        return self._left is not None

    def own(self, below: int, durable_below: int, limit: int) -> tuple[Sequence[Change], int]:
        """Return one's own next changes and the number behind them.

        Args:
            below: where to begin.
            durable_below: where to stop; what lies behind may still fail.
            limit: at most that many.
        """
        if self._own is None or self._own.below != below:
            self._own = Backlog(self._folder, below)
        found = self._own.read(limit, durable_below)
        return _changes(found, self._erasures()), self._own.below

    @contextmanager
    def portion(self, limit: int) -> Iterator[Sequence[Change]]:
        """Yield the next changes that a writer who is gone left, and note them as applied when the block succeeds."""
        backlog = self._left or self._find()
        self._left = backlog
        if backlog is None:
            yield []
            return
        with held(backlog.folder) as mine:
            found = backlog.read(limit) if mine else []
            yield _changes(found, self._erasures())
            if found:
                write_applied(backlog.folder, backlog.below)
        if not mine or len(found) < limit:
            self._left = None
        if mine and len(found) < limit:
            self._finished.add(backlog.folder)

    def after_erasing(self, changes: Sequence[Change]) -> list[Change]:
        """Return what to apply again once these changes have been: events that arrived after an order to erase.

        The order comes late, out of turn with what other writers have logged and applied since, and the store forgets
        a person whole. Whatever was applied before then is in the log by now, so none is overlooked.
        """
        orders = [change for change in changes if change.event is None]
        erased = {(change.tenant, change.erase or ""): change.arrived_us for change in orders}
        return arrived_after(self._stream.parent, erased, self._erasures()) if erased else []

    def any_left(self) -> bool:
        """Tell whether a writer who is gone left records behind its mark, and begin with it if so."""
        self._left = self._find()
        return self.is_open

    def restart(self) -> None:
        """Read again what was handed out last; it was not applied."""
        self._own = self._left = None

    def give_up(self) -> None:
        """Leave what cannot be read to the operator."""
        if self._left is not None:
            self._finished.add(self._left.folder)
        self.restart()

    def _find(self) -> Backlog | None:
        known = writers(self._stream)
        self._finished &= {self._folder, *known}
        for folder in known:
            below = None if folder in self._finished else read_trusted(folder)
            if below is None:
                continue
            with held(folder) as mine:
                if mine:
                    make_durable(folder)
                    return Backlog(folder, below)
        return None

    def _erasures(self) -> Erasures:
        """Read the erasures again if any was added, by whichever replica."""
        version = erasures_version(self._stream.parent)
        if version != self._version:
            self._known_erasures, self._version = read_erasures(self._stream.parent), version
        return self._known_erasures


def make_durable(folder: Path) -> None:
    """Put on disk what a killed writer left in the page cache, before anything is derived from it.

    Otherwise an event could be applied, vanish in a power failure, and be called a duplicate when it is sent again.
    """
    for path in segments(folder)[-1:]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _changes(records: Sequence[EventRecord], erasures: Erasures) -> list[Change]:
    changes = [record.change() for record in records]
    return [
        change
        for change in changes
        if change.event is None or not erasures.cover(change.tenant, change.event.person, change.arrived_us)
    ]


def recover(directory: Path, profiles: Profiles, now: Callable[[], float]) -> int:
    """Apply, without a running service, everything that writers who are gone left; returns how many were new.

    Raises:
        StoreUnavailable: some may have been applied; run it again.
        CorruptSegment, DataError: a segment is damaged; what stands before it has been applied.
    """
    recovery = Recovery(directory / "events" / _NOBODY)
    new = 0
    while True:
        with recovery.portion(_PORTION) as changes:
            new += apply_changes(profiles, changes, now())
            apply_changes(profiles, recovery.after_erasing(changes), now())
        if not recovery.is_open and not recovery.any_left():
            return new
