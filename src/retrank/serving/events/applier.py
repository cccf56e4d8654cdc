"""Brings durable records to the profiles, in the order of the log, and then acknowledges them.

One thread does all of it, so there is one order: wait until the oldest batch is durable, apply it and whatever else is
durable by then in one go, move the mark `below` past it, acknowledge.

While the profile store is away (`StoreUnavailable`) batches are acknowledged as soon as they are durable. The mark
stays, and every `retry_s` the thread reads the log from the mark on and applies what it finds, a portion at a time
between acknowledgements, until it has caught up. The log is the queue: an outage of any length costs no memory.

The same machinery brings home what a killed process left: for every folder whose writer is gone, the records behind its
mark are applied. All of that may repeat records that were applied already; the store knows them by their ids.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from retrank.contract.events import EventReceipt
from retrank.serving.events.applied import write_applied
from retrank.serving.events.changes import apply_changes
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.records import Change
from retrank.serving.events.recovery import Recovery
from retrank.serving.stores.protocol import DEFAULT_TENANT, LiveEvent, PersonEvent, Profiles, StoreUnavailable

_LOG = logging.getLogger(__name__)
_GROUP = 500
"""Events that are applied in one go, about; the first of them waits for the last."""
_PORTION = 2_000
"""Events that are read back from the log in one go."""
_PROBE = PersonEvent("s:", LiveEvent("", "", "", 0))


@dataclass(frozen=True)
class Admitted:
    """A batch on its way: numbered, queued in the log, not yet known to be durable.

    Attributes:
        changes: what is new in it.
        below: behind the number of its last record.
        waits: what has to be durable before it may be acknowledged.
        receipt, future: the answer, and who waits for it.
        size: number of events it counts for in the bound of the intake.
    """

    changes: Sequence[Change]
    below: int
    waits: Sequence[Future[None]]
    receipt: EventReceipt
    future: Future[EventReceipt]
    size: int


@dataclass(frozen=True)
class ApplierOptions:
    """How often the applier looks after what is left behind, all in seconds."""

    retry_s: float = 1.0
    checkpoint_s: float = 0.5
    recover_s: float = 10.0
    idle_s: float = 0.1


@dataclass
class Tally:
    """What happened so far, for metrics."""

    applied: int = 0
    recovered: int = 0
    unapplied: int = 0
    store_failures: int = 0
    damaged: list[str] = field(default_factory=list)


class Applier:
    """The thread behind an intake.

    Args:
        profiles: where events take effect.
        folder: of the log's writer, where the mark is kept; None when the log is not ours to read (Kafka). Then what
            is accepted while the store is away is not applied, and counted in `tally.unapplied`.
        now: seconds since the Unix epoch.
        monotonic: seconds that never go back.
        done: called with every batch that was acknowledged or refused.
        log_lag: told every `checkpoint_s` how old the oldest event is that is not applied, in seconds; 0 for none.
    """

    def __init__(
        self,
        profiles: Profiles,
        folder: Path | None,
        *,
        options: ApplierOptions,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        done: Callable[[Admitted], None],
        log_lag: Callable[[float], None] | None = None,
    ) -> None:
        self.tally = Tally()
        self._profiles, self._options = profiles, options
        self._now, self._monotonic, self._done = now, monotonic, done
        self._folder = folder
        self._recovery = None if folder is None else Recovery(folder)
        self._below = self._durable_below = 0
        self._noted = -1
        self._retry_at = self._note_at = self._recover_at = 0.0
        self._log_lag = log_lag
        self._waiting_since_us: int | None = None
        self._behind = threading.Event()
        self._queue: deque[Admitted] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._note(force=True)
        self._thread = threading.Thread(target=self._run, name="event-applier", daemon=True)

    @property
    def behind(self) -> bool:
        """Whether the store is away, or not all durable records have been applied yet."""
        return self._behind.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, batch: Admitted) -> None:
        """Queue a batch; batches are put in the order of their numbers."""
        with self._changed:
            self._queue.append(batch)
            if len(self._queue) == 1:
                self._changed.notify()

    def fall_behind(self, error: StoreUnavailable) -> None:
        """Stop asking the store for a while."""
        self.tally.store_failures += 1
        self._retry_at = self._monotonic() + self._options.retry_s
        if not self._behind.is_set():
            later = "are applied from the log when it is back" if self._folder else "will have to be replayed"
            _LOG.error("profile store unavailable (%s); events accepted meanwhile %s", error, later)
            self._behind.set()

    def close(self) -> None:
        """Acknowledge what is queued and note the mark."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._note(force=True)

    def _run(self) -> None:
        while (batches := self._collect()) is not None:
            durable = [batch for batch in batches if self._is_durable(batch)]
            applied = self._apply(durable)
            for batch in durable:
                self._answer(batch, applied=applied)
            self._look_after()

    def _collect(self) -> list[Admitted] | None:
        """Return the oldest batch and those behind it that need no waiting; [] now and then; None at the end."""
        with self._changed:
            if not self._queue and not self._closing:
                self._changed.wait(self._pause())
            if not self._queue:
                return None if self._closing else []
            batches = [self._queue.popleft()]
            size = batches[0].size
            while self._queue and size < _GROUP and all(wait.done() for wait in self._queue[0].waits):
                batches.append(self._queue.popleft())
                size += batches[-1].size
            return batches

    def _pause(self) -> float:
        catching_up = self.behind and self._monotonic() >= self._retry_at
        recovering = self._recovery is not None and self._recovery.is_open
        return 0.0 if catching_up or (recovering and not self.behind) else self._options.idle_s

    def _is_durable(self, batch: Admitted) -> bool:
        try:
            for wait in batch.waits:
                wait.result()
        except LogUnavailable as error:
            batch.future.set_exception(error)
            self._done(batch)
            return False
        return True

    def _apply(self, batches: Sequence[Admitted]) -> bool:
        if not batches:
            return True
        self._durable_below = batches[-1].below
        changes = [change for batch in batches for change in batch.changes]
        if not self.behind:
            try:
                self.tally.applied += self._into_profiles(changes) if changes else 0
                self._below = self._durable_below
                return True
            except StoreUnavailable as error:
                self.fall_behind(error)
        if self._waiting_since_us is None and changes:
            self._waiting_since_us = changes[0].arrived_us
        self.tally.unapplied += len(changes) if self._folder is None else 0
        return False

    def _answer(self, batch: Admitted, *, applied: bool) -> None:
        """Acknowledge, unless a person was to be erased and nothing will make up for it."""
        if not applied and self._folder is None and any(change.erase for change in batch.changes):
            batch.future.set_exception(LogUnavailable("the profile store is away, nobody was erased; try again"))
        else:
            batch.future.set_result(batch.receipt)
        self._done(batch)

    def _into_profiles(self, changes: Sequence[Change]) -> int:
        """Apply changes; with none, find out whether the store answers."""
        try:
            if not changes:
                self._profiles.known(DEFAULT_TENANT, [_PROBE], self._now())
            return apply_changes(self._profiles, changes, self._now())
        except StoreUnavailable:
            raise
        except Exception as error:  # whatever a store does, acknowledgements go on and the log keeps the events
            _LOG.exception("the profile store failed in an unforeseen way")
            raise StoreUnavailable(f"unforeseen: {type(error).__name__}") from error

    def _look_after(self) -> None:
        now = self._monotonic()
        if self.behind and now >= self._retry_at:
            self._guarded(self._catch_up)
        if self._recovery is not None and not self.behind and (self._recovery.is_open or now >= self._recover_at):
            self._recover_at = now + self._options.recover_s
            self._guarded(self._recover)
        if now >= self._note_at:
            self._note_at = now + self._options.checkpoint_s
            self._note()
            self._tell_lag()

    def _tell_lag(self) -> None:
        if self._log_lag is not None:
            since_us = self._waiting_since_us
            self._log_lag(0.0 if since_us is None else max(0.0, self._now() - since_us / 1e6))

    def _guarded(self, act: Callable[[], None]) -> None:
        """Look after what is left behind without ever stopping the acknowledgements."""
        try:
            act()
        except StoreUnavailable as error:
            if self._recovery is not None:
                self._recovery.restart()
            self.fall_behind(error)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with old files, acknowledgements go on)
            _LOG.critical("events that were acknowledged cannot be read back: %s", error)
            self.tally.damaged.append(str(error))
            if self._recovery is not None:
                self._recovery.give_up()

    def _catch_up(self) -> None:
        if self._recovery is None:
            self._into_profiles([])
            self._caught_up()
            _LOG.warning("profile store is back, without %d events", self.tally.unapplied)
            return
        changes, below = self._recovery.own(self._below, self._durable_below, _PORTION)
        self.tally.applied += self._into_profiles(changes)
        self._restore(self._recovery, changes)
        stuck, self._below = below == self._below, below
        if changes:
            self._waiting_since_us = changes[-1].arrived_us
        if stuck or below >= self._durable_below:
            self._below = self._durable_below
            self._caught_up()
            _LOG.warning("profile store is back and has every event")

    def _caught_up(self) -> None:
        self._behind.clear()
        self._waiting_since_us = None

    def _recover(self) -> None:
        assert self._recovery is not None
        with self._recovery.portion(_PORTION) as changes:
            self.tally.recovered += self._into_profiles(changes)
            self._restore(self._recovery, changes)

    def _restore(self, recovery: Recovery, changes: Sequence[Change]) -> None:
        """Apply again what orders to erase that came late have taken with them."""
        later = recovery.after_erasing(changes)
        if later:
            self._into_profiles(later)

    def _note(self, *, force: bool = False) -> None:
        if self._folder is None or (self._below == self._noted and not force):
            return
        try:
            write_applied(self._folder, self._below)
            self._noted = self._below
        except OSError as error:
            _LOG.warning("%s: cannot note what has been applied (%s)", self._folder, error)
