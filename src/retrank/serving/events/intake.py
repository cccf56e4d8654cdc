"""Takes batches of events: checks them, makes them durable, applies them to the profiles, acknowledges.

The order of the steps is what makes every event count exactly once:

1. **check** each event; a bad one is refused with its place and the reason and goes to the dead letters.
2. **known**: what the profile store has applied before is a duplicate. It is acknowledged and not logged again: it can
   only have been applied after it was durable. A second copy of an event that is under way waits for the first.
3. **append**: the new ones go to the log, and nothing else happens before they are durable.
4. **apply** them to the profiles, where noting the id and the effect are one transaction.
5. **acknowledge**.

Killed before 3 is through, nothing was promised and the caller sends the batch again. Killed between 3 and 4, the event
is in the log behind the mark, and the next process applies it (`applier`). Killed between 4 and 5, the caller sends it
again and step 2 knows it. The other order, apply and then append, would lose an applied event from the log for ever:
after the crash it would be called a duplicate.

If the profile store is away, steps 2 and 4 are left out and made up for later: the log may then hold an event twice,
the profiles and the compacted tables will not. If the log is away, nothing is accepted (`LogUnavailable`).

Two threads do the work, one for steps 1 to 3 and one for 4 and 5; both take whatever has queued in one go. `begin` only
queues, so that it can be called from an event loop.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from retrank.contract.events import EventBatch, EventReceipt
from retrank.serving.events.applier import Admitted, Applier, ApplierOptions, Tally
from retrank.serving.events.checking import MAX_AGE_S, Checked, Taken, check
from retrank.serving.events.protocol import LogUnavailable, RecordLog
from retrank.serving.events.records import Change, Erasure, encode_erase, encode_event, person_digest
from retrank.serving.events.segment_log import SegmentLog
from retrank.serving.events.settings import EventSettings, open_log
from retrank.serving.stores.protocol import DEFAULT_TENANT, PersonEvent, Profiles, StoreUnavailable

_LOG = logging.getLogger(__name__)
_GROUP = 500
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Logs:
    """The logs an intake writes: events; refused events; who was erased."""

    events: RecordLog
    rejected: RecordLog | None = None
    erasures: RecordLog | None = None


@dataclass(frozen=True)
class Outside:
    """What an intake asks of the rest of the service, and tells it.

    Attributes:
        has_signed: tells whether a token was handed out to a tenant; None when nobody can tell.
        log_lag: is told, now and then, how many seconds ago the oldest event arrived that is not applied; 0 for none.
    """

    has_signed: Callable[[str, str], bool] | None = None
    log_lag: Callable[[float], None] | None = None


@dataclass(frozen=True)
class Limits:
    """What an intake refuses.

    Attributes:
        max_pending: events under way above which batches are refused.
        max_age_s: events that are said to have happened longer ago are rejected.
    """

    max_pending: int = 50_000
    max_age_s: float = MAX_AGE_S


_ALONE, _LIMITS = Outside(), Limits()


@dataclass(frozen=True)
class _Asked:
    """A batch, or a person to erase, as it came in."""

    tenant: str
    arrived_us: int
    batch: EventBatch | None
    erase: str
    future: Future[EventReceipt]
    size: int


class _Prepared(NamedTuple):
    """A group of batches, checked, with what is known of its events."""

    checked: list[Checked]
    under_way: dict[_Key, Future[None]]
    applied: set[_Key]


class Intake:
    """Takes events.

    Args:
        logs: where records go; closed with the intake.
        profiles: where events take effect; stays open.
        folder: of the writer of `logs.events`, to recover from; None when that log is not a folder.
        options: how often to look after what is left behind.
        limits: what is refused.
        outside: the rest of the service.
        now: seconds since the Unix epoch.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        logs: Logs,
        profiles: Profiles,
        *,
        folder: Path | None = None,
        options: ApplierOptions | None = None,
        limits: Limits = _LIMITS,
        outside: Outside = _ALONE,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logs, self._profiles, self._now, self._limits = logs, profiles, now, limits
        self._has_signed = outside.has_signed
        self._queue: deque[_Asked] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._pending = 0
        self._next_n = 0
        self._in_flight: dict[_Key, Future[None]] = {}
        self._applier = Applier(
            profiles,
            folder,
            options=options or ApplierOptions(),
            now=now,
            monotonic=monotonic,
            done=self._forget,
            log_lag=outside.log_lag,
        )
        self._applier.start()
        self._thread = threading.Thread(target=self._run, name="event-intake", daemon=True)
        self._thread.start()

    @property
    def tally(self) -> Tally:
        """What happened so far."""
        return self._applier.tally

    @property
    def behind(self) -> bool:
        """Whether durable events are waiting for the profile store."""
        return self._applier.behind

    def begin(self, batch: EventBatch, tenant: str = DEFAULT_TENANT) -> Future[EventReceipt]:
        """Queue a batch; never blocks.

        Returns:
            The receipt, once everything it counts as accepted or duplicate is durable; or `LogUnavailable`, and then
            the batch should be sent again: what had become durable meanwhile will be a duplicate.
        """
        return self._ask(tenant, batch=batch, size=len(batch.events))

    async def take(self, batch: EventBatch, tenant: str = DEFAULT_TENANT) -> EventReceipt:
        """Do the same for a coroutine.

        Raises:
            LogUnavailable: see `begin`.
        """
        return await asyncio.wrap_future(self.begin(batch, tenant))

    def erase(self, tenant: str, person: str) -> Future[EventReceipt]:
        """Erase a person: from the profiles now, from the tables with the next compaction, in the order of arrival.

        Returns:
            A future that ends when the order is durable and, unless the store is away, the profile is gone; the
            receipt counts nothing.
        """
        return self._ask(tenant, erase=person, size=1)

    def close(self) -> None:
        """Answer everything queued, note what has been applied, and close the logs."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._applier.close()
        for log in (self._logs.events, self._logs.rejected, self._logs.erasures):
            if log is not None:
                log.close()

    def _ask(self, tenant: str, *, batch: EventBatch | None = None, erase: str = "", size: int) -> Future[EventReceipt]:
        future: Future[EventReceipt] = Future()
        future.set_running_or_notify_cancel()  # what is queued will happen, whoever still waits
        refusal = None
        with self._changed:
            if self._closing:
                refusal = "the intake is closed; ask another replica"
            elif self._pending + size > self._limits.max_pending:
                refusal = f"{self._pending:,} events are under way, no more fit; try again shortly"
            else:
                self._pending += size
                self._queue.append(_Asked(tenant, int(self._now() * 1e6), batch, erase, future, size))
                if len(self._queue) == 1:
                    self._changed.notify()
        if refusal is not None:
            future.set_exception(LogUnavailable(refusal))
        return future

    def _run(self) -> None:
        while (asked := self._collect()) is not None:
            try:
                prepared = self._prepare(asked)
            except Exception as error:  # noqa: BLE001  (an answer for everybody, whatever happened)
                for one in asked:
                    self._refuse(one, error)
                continue
            for one, checked in zip(asked, prepared.checked, strict=True):
                try:
                    self._admit(one, checked, prepared)
                except Exception as error:  # noqa: BLE001  (the same)
                    self._refuse(one, error)

    def _refuse(self, one: _Asked, error: Exception) -> None:
        _LOG.error("a batch could not be admitted", exc_info=error)
        with self._changed:
            self._pending -= one.size
        one.future.set_exception(LogUnavailable(f"not admitted ({type(error).__name__}); send it again"))

    def _collect(self) -> list[_Asked] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            asked = [self._queue.popleft()]
            size = asked[0].size
            while self._queue and size + self._queue[0].size <= _GROUP:
                asked.append(self._queue.popleft())
                size += asked[-1].size
            return asked

    def _prepare(self, asked: Sequence[_Asked]) -> _Prepared:
        """Check a group, find out which events are under way, then which are applied; so none slips through."""
        checked = [self._checked(one) for one in asked]
        by_tenant: dict[str, list[PersonEvent]] = defaultdict(list)
        for one, sorted_out in zip(asked, checked, strict=True):
            by_tenant[one.tenant] += [taken.person_event for taken in sorted_out.taken]
        keys = [_key(tenant, event) for tenant, events in by_tenant.items() for event in events]
        found = ((key, self._in_flight.get(key)) for key in keys)
        under_way = {key: future for key, future in found if future is not None}
        return _Prepared(checked, under_way, self._applied_before(by_tenant))

    def _checked(self, one: _Asked) -> Checked:
        events = one.batch.events if one.batch else []
        return check(events, tenant=one.tenant, arrived_us=one.arrived_us, max_age_s=self._limits.max_age_s)

    def _applied_before(self, by_tenant: Mapping[str, list[PersonEvent]]) -> set[_Key]:
        """Ask the store once per tenant; nothing is known while it is away."""
        found: set[_Key] = set()
        for tenant, events in by_tenant.items():
            if not events or self._applier.behind:
                continue
            try:
                known = self._profiles.known(tenant, events, self._now())
            except StoreUnavailable as error:
                self._applier.fall_behind(error)
                continue
            found |= {_key(tenant, event) for event, is_known in zip(events, known, strict=True) if is_known}
        return found

    def _admit(self, one: _Asked, checked: Checked, prepared: _Prepared) -> None:
        if self._logs.rejected is not None and checked.letters:
            self._logs.rejected.append([letter.encode() for letter in checked.letters])
        if one.batch is None:
            self._admit_erasure(one)
        else:
            self._admit_batch(one, checked, prepared)

    def _admit_batch(self, one: _Asked, checked: Checked, prepared: _Prepared) -> None:
        waits: list[Future[None]] = []
        new: dict[_Key, Taken] = {}
        for taken in checked.taken:
            key = _key(one.tenant, taken.person_event)
            under_way = prepared.under_way.get(key)
            if under_way is not None:
                waits.append(under_way)
            elif key not in prepared.applied:
                new.setdefault(key, taken)
        records = [self._record(one, taken, offset) for offset, taken in enumerate(new.values())]
        if records:
            waits.append(self._logs.events.append(records))
        changes = [Change(one.tenant, one.arrived_us, taken.person_event) for taken in new.values()]
        self._next_n += len(records)
        for key in new:
            self._in_flight[key] = prepared.under_way[key] = waits[-1]
        receipt = EventReceipt(accepted=len(new), duplicates=len(checked.taken) - len(new), rejected=checked.rejected)
        self._applier.put(Admitted(changes, self._next_n, waits, receipt, one.future, one.size))

    def _record(self, one: _Asked, taken: Taken, offset: int) -> bytes:
        attributed = None
        if taken.token is not None and self._has_signed is not None:
            attributed = self._has_signed(one.tenant, taken.token)
        n, arrived_us = self._next_n + offset, one.arrived_us
        return encode_event(taken.encoded, n=n, tenant=one.tenant, arrived_us=arrived_us, attributed=attributed)

    def _admit_erasure(self, one: _Asked) -> None:
        order = encode_erase(one.erase, n=self._next_n, tenant=one.tenant, arrived_us=one.arrived_us)
        note = Erasure(tenant=one.tenant, person_sha256=person_digest(one.tenant, one.erase), erased_us=one.arrived_us)
        waits = [self._logs.events.append([order])]
        if self._logs.erasures is not None:
            waits.append(self._logs.erasures.append([note.encode()]))
        self._next_n += 1
        changes = [Change(one.tenant, one.arrived_us, None, one.erase)]
        receipt = EventReceipt(accepted=0, duplicates=0)
        self._applier.put(Admitted(changes, self._next_n, waits, receipt, one.future, one.size))

    def _forget(self, batch: Admitted) -> None:
        """Note that a batch has been answered; called by the applier."""
        for change in batch.changes:
            if change.event is not None:
                self._in_flight.pop(_key(change.tenant, change.event), None)
        with self._changed:
            self._pending -= batch.size


def _key(tenant: str, event: PersonEvent) -> _Key:
    return tenant, event.person, event.event.event_id


def open_intake(settings: EventSettings, profiles: Profiles, outside: Outside = _ALONE) -> Intake:
    """Open the logs that the settings describe, and an intake over them; recovers what killed replicas left.

    Raises:
        LogUnavailable: a folder cannot be made.
    """
    events = open_log(settings)
    local = settings.directory is not None
    logs = Logs(
        events,
        open_log(settings, "rejected") if local else None,
        open_log(settings, "erasures") if local else None,
    )
    folder = events.folder if isinstance(events, SegmentLog) else None
    limits = Limits(max_age_s=settings.max_age_days * 86_400)
    return Intake(logs, profiles, folder=folder, limits=limits, outside=outside)
