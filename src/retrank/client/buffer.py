"""A buffer for events that loses none of them to a service that is away: what cannot be sent goes to disk.

One thread sends; `add` never waits for the network. A batch that fails is written to the spool folder, one file a
batch, and sent again later, oldest first, or by the next process with the same folder. Events carry their own ids, so
that one that is sent twice counts once. The folder is bounded: beyond `max_spooled` batches `add` refuses new events.

Several processes may share a folder; each may send what another left. While the folder cannot be written either, events
wait in memory, within the same bound.

Coroutines use it too, with a `Client` of its own beside their `AsyncClient`: `async with EventBuffer(...)`; `add`
does not block.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from retrank.client.answers import Receipt
from retrank.client.errors import CallFailed, CallRefused, ClientError
from retrank.client.sync_client import Client
from retrank.contract.events import MAX_EVENTS, Event

_BATCH = TypeAdapter(list[Event])
_SUFFIX = ".events.json"
_REFUSED = ".refused"
_KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""What is wrong is the key, not the events: they are good again when it is."""
_LOG = logging.getLogger(__name__)


class SpoolFull(ClientError):  # noqa: N818  (a state, not a mistake of this code)
    """The spool holds all it may; the service has been away for too long, or refuses what it gets."""


class EventBuffer:
    """Collects events and sends them in batches from a thread of its own.

    Args:
        client: sends; its deadline and retries apply to each batch.
        spool: folder for what could not be sent; made when missing, readable by its owner alone.
        batch_size: events sent at once, 1..1,000.
        flush_s: longest an event waits for company, in seconds.
        max_spooled: batches kept on disk, those that were refused included, >= 1.
        now_ns: nanoseconds since the Unix epoch; names spool files in order.
    """

    def __init__(
        self,
        client: Client,
        spool: Path | str,
        *,
        batch_size: int = 100,
        flush_s: float = 1.0,
        max_spooled: int = 1_000,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take over what an earlier process left in the spool, and start sending.

        Raises:
            ClientError: batch_size is out of range.
        """
        if not 1 <= batch_size <= MAX_EVENTS:
            raise ClientError(f"batch_size is {batch_size}; 1 to {MAX_EVENTS} events can be sent at once")
        self._client, self._spool = client, Path(spool)
        self._batch_size, self._flush_s, self._max_spooled, self._now_ns = batch_size, flush_s, max_spooled, now_ns
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._waiting: list[Event] = []
        self._num_kept = self._count_kept()
        self._num_written = 0
        self.rejected = 0
        """Events that the service looked at and did not take; the log says why."""
        self._changed = threading.Condition()
        self._closing = False
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="retrank-events", daemon=True)
        self._thread.start()

    def add(self, event: Event) -> None:
        """Take an event; it is sent soon.

        Raises:
            SpoolFull: there is no room for more events; this one was not taken.
            ClientError: the buffer is closed.
        """
        with self._changed:
            if self._closing:
                raise ClientError("the event buffer is closed; add events before closing it")
            room = self._max_spooled - len(self._waiting) // self._batch_size
            if self._num_kept >= room:
                raise SpoolFull(
                    f"{self._spool} holds {self._max_spooled} unsent batches, the most it may, {_REFUSED} ones "
                    "included; is the service up, is the key good? Move refused ones elsewhere"
                )
            self._waiting.append(event)
            if len(self._waiting) >= self._batch_size:
                self._changed.notify()

    def flush(self) -> int:
        """Send everything now; return how many batches are left in the spool because they could not be sent.

        Raises:
            OSError: the spool cannot be read or written; what was not sent waits in memory.
        """
        with self._sending:
            try:
                self._send_waiting()
                self._send_spooled()
            finally:
                self._num_kept = self._count_kept()
            return len(self._spooled())

    def close(self) -> None:
        """Send or spool everything, and stop. Closing twice does no harm.

        Raises:
            OSError: the spool cannot be written; close again when it can, or the events that wait are lost.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self.flush()

    def __enter__(self) -> Self:
        """Return the buffer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send or spool everything."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the buffer. Coroutines call `add` as everybody does: it waits for nothing but a lock."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send or spool everything, in a thread, so that the event loop goes on."""
        await asyncio.to_thread(self.close)

    def _work(self) -> None:
        failed = False
        while True:
            with self._changed:
                if not self._closing and (failed or len(self._waiting) < self._batch_size):
                    self._changed.wait(self._flush_s)
                if self._closing:
                    return
            try:
                self.flush()
                failed = False
            except Exception:  # noqa: BLE001  (the thread must outlive a full disk: the events are still there)
                failed = True
                _LOG.exception("%s: events can neither be sent nor spooled; they wait in memory", self._spool)

    def _send_waiting(self) -> None:
        while batch := self._next_batch():
            try:
                if not self._send(batch):
                    self._write(batch)
            except BaseException:
                with self._changed:
                    self._waiting = [*batch, *self._waiting]
                raise

    def _next_batch(self) -> list[Event]:
        with self._changed:
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            return batch

    def _send_spooled(self) -> None:
        for path in self._spooled():
            try:
                batch = _BATCH.validate_json(path.read_bytes())
            except FileNotFoundError:  # another process sent it
                continue
            except ValidationError:  # cut by a crash of the machine, or not ours; kept for a person to look at
                with suppress(FileNotFoundError):
                    path.rename(path.with_suffix(_REFUSED))
                continue
            if not self._send(batch):
                return
            path.unlink(missing_ok=True)

    def _send(self, batch: Sequence[Event]) -> bool:
        """Send a batch; a refused one is put aside for a person, for sending it again would not help."""
        try:
            self._note_rejected(self._client.send_events(batch), len(batch))
        except CallFailed:
            return False
        except CallRefused as refused:
            if refused.refusal.receipt is not None:  # all were looked at, and none was taken
                self._note_rejected(refused.refusal.receipt, len(batch))
                return True
            _LOG.warning("%d events were refused with %d", len(batch), refused.status)
            if refused.status in _KEY_REFUSED:
                return False
            self._write(batch, _REFUSED)
        except Exception:  # noqa: BLE001  (a closed client, say: whatever it is, the events are kept)
            _LOG.exception("%d events could not be sent", len(batch))
            return False
        return True

    def _note_rejected(self, receipt: Receipt, sent: int) -> None:
        if receipt.rejected:
            self.rejected += len(receipt.rejected)
            why = receipt.rejected[0].get("detail")
            _LOG.warning("%d of %d events were rejected, first: %s", len(receipt.rejected), sent, why)

    def _write(self, batch: Sequence[Event], suffix: str = ".json") -> None:
        self._num_written += 1
        path = self._spool / f"{self._now_ns():020d}-{os.getpid()}-{self._num_written}{_SUFFIX}"
        partial = path.with_suffix(".partial")
        try:
            with partial.open("xb") as file:
                file.write(_BATCH.dump_json(list(batch), exclude_none=True))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        partial.rename(path.with_suffix(suffix))

    def _spooled(self) -> list[Path]:
        return sorted(self._spool.glob(f"*{_SUFFIX}"))

    def _count_kept(self) -> int:
        """Return the batches on disk: those that wait and those that were refused."""
        return len(self._spooled()) + sum(1 for _ in self._spool.glob(f"*{_REFUSED}"))
