"""The embedded log: append-only segments on a local disk, one writer thread, one fsync for all who wait.

While an fsync runs, records queue; the next one covers them all. So the busier the log, the more records share an
fsync, and nobody waits for more than two of them.

When the disk fails. Records of the failed commit are not acknowledged. The file is cut back to its last acknowledged
byte and left behind: after a failed fsync nobody knows what the kernel still holds of it, so nothing is ever added to
it, and a new segment is begun by the next commit. For `retry_s` after a failure records are refused at once; the first
commit behind that tries the disk again.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path

from retrank.serving.events.folders import claim, segments, sync_folder
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.segment import SUFFIX, frames, header, seal

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentOptions:
    """Bounds of a log; `settings.EventSettings` describes them. `keep_bytes` None keeps everything."""

    segment_bytes: int = 32 << 20
    segment_age_s: float = 3_600.0
    linger_s: float = 0.0
    batch_bytes: int = 4 << 20
    queue_bytes: int = 32 << 20
    retry_s: float = 0.5
    keep_bytes: int | None = None


@dataclass(frozen=True)
class _Waiting:
    framed: bytes
    num_records: int
    future: Future[None]


@dataclass
class _Segment:
    """The segment being written: everything up to `size` is durable."""

    path: Path
    descriptor: int
    size: int
    num_records: int
    opened: float


class SegmentLog:
    """A `RecordLog` in a folder of its own below `stream`.

    Args:
        stream: folder of the stream; each writer gets a folder in it.
        options: bounds.
        clock: seconds since the Unix epoch, for names and headers.
        monotonic: seconds that never go back, for ages.

    Raises:
        LogUnavailable: the folder cannot be made.
    """

    def __init__(
        self,
        stream: Path,
        options: SegmentOptions | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options or SegmentOptions()
        self._clock, self._monotonic = clock, monotonic
        try:
            self.folder, self._lock = claim(stream, clock())
        except OSError as error:
            raise LogUnavailable(f"{stream}: cannot be written ({error.strerror}); free space or rights") from error
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._segment: _Segment | None = None
        self._next_number = 1
        self._refuse_until = 0.0
        self._thread = threading.Thread(target=self._run, name=f"segment-log-{stream.name}", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[bytes]) -> Future[None]:
        """Queue records in order; see `RecordLog`.

        Raises:
            ValueError: a record is empty or longer than `segment.MAX_RECORD_BYTES`.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is queued cannot be called back
        waiting = _Waiting(frames(records), len(records), future)
        with self._changed:
            refusal = self._refusal(len(waiting.framed))
            if refusal is None:
                self._queue.append(waiting)
                self._queued_bytes += len(waiting.framed)
                if len(self._queue) == 1 or self._is_full():  # else the writer is busy, or lingers, and needs no waking
                    self._changed.notify()
        if refusal is not None:
            future.set_exception(LogUnavailable(refusal))
        return future

    def close(self) -> None:
        """Commit what is queued, seal the segment and abandon the folder."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._thread.join()
        os.close(self._lock)

    def _refusal(self, size: int) -> str | None:
        if self._closing:
            return f"{self.folder}: the log is closed"
        if self._monotonic() < self._refuse_until:
            return f"{self.folder}: the disk failed a moment ago; try again shortly"
        if self._queued_bytes + size > self._options.queue_bytes:
            return f"{self.folder}: {self._queued_bytes:,} bytes wait for the disk, no more fit; try again shortly"
        return None

    def _run(self) -> None:
        try:
            while (batch := self._collect()) is not None:
                if batch:
                    self._commit(batch)
                self._rotate_if_due()
            self._seal()
        except Exception as error:  # noqa: BLE001  (a mistake of ours; nobody may wait for ever because of it)
            _LOG.exception("%s: the writer of the log ended", self.folder)
            with self._changed:
                self._closing = True
                left, self._queue = list(self._queue), deque()
            for waiting in left:
                waiting.future.set_exception(LogUnavailable(f"{self.folder}: the log ended ({error}); restart"))

    def _collect(self) -> list[_Waiting] | None:
        """Wait for records, or for a segment to come of age (then []); None when the log is closed and empty."""
        with self._changed:
            if not self._queue and not self._closing:
                self._changed.wait(self._until_old())
            if not self._queue:
                return None if self._closing else []
            if self._options.linger_s and not self._closing:
                self._changed.wait_for(self._is_full, self._options.linger_s)
            batch: list[_Waiting] = []
            size = 0
            while self._queue and (not batch or size + len(self._queue[0].framed) <= self._options.batch_bytes):
                batch.append(self._queue.popleft())
                size += len(batch[-1].framed)
            self._queued_bytes -= size
            return batch

    def _is_full(self) -> bool:
        return self._closing or self._queued_bytes >= self._options.batch_bytes

    def _until_old(self) -> float | None:
        if self._segment is None:
            return None
        return max(0.0, self._segment.opened + self._options.segment_age_s - self._monotonic())

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            if self._monotonic() < self._refuse_until:
                raise OSError(None, "failed a moment ago")
            segment = self._segment or self._begin()
            data = b"".join(waiting.framed for waiting in batch)
            _write_all(segment.descriptor, data)
            os.fdatasync(segment.descriptor)
            if not os.fstat(segment.descriptor).st_nlink:
                raise FileNotFoundError(ENOENT, "somebody removed the segment that is being written")
        except (OSError, MemoryError) as error:
            self._fail(batch, error)
            return
        segment.size += len(data)
        segment.num_records += sum(waiting.num_records for waiting in batch)
        for waiting in batch:
            waiting.future.set_result(None)

    def _begin(self) -> _Segment:
        path = self.folder / f"{self._next_number:012d}{SUFFIX}"
        first = header(int(self._clock() * 1e6))
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        self._next_number += 1
        try:
            _write_all(descriptor, first)
            sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._segment = _Segment(path, descriptor, len(first), 0, self._monotonic())
        return self._segment

    def _fail(self, batch: list[_Waiting], error: OSError | MemoryError) -> None:
        now = self._monotonic()
        if now >= self._refuse_until:
            _LOG.error("%s: cannot write (%s); refusing records", self.folder, error)
            self._refuse_until = now + self._options.retry_s
        if self._segment is not None:
            _leave(self._segment)
            self._segment = None
        for waiting in batch:
            waiting.future.set_exception(LogUnavailable(f"{self.folder}: not durable ({error}); try again shortly"))

    def _rotate_if_due(self) -> None:
        segment = self._segment
        if segment is None:
            return
        old = self._monotonic() - segment.opened >= self._options.segment_age_s
        if old or segment.size >= self._options.segment_bytes:
            self._seal()
            self._forget_oldest()

    def _seal(self) -> None:
        """Close the segment; a disk that cannot take the seal leaves it without one, which readers understand."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            _write_all(segment.descriptor, seal(segment.num_records))
            os.fdatasync(segment.descriptor)
            if not os.fstat(segment.descriptor).st_nlink:
                raise FileNotFoundError(ENOENT, "somebody removed the segment that is being written")
            os.close(segment.descriptor)
        except OSError as error:
            _LOG.warning("%s: cannot be sealed (%s)", segment.path, error)
            _leave(segment)

    def _forget_oldest(self) -> None:
        if self._options.keep_bytes is None:
            return
        try:
            found = [(path, path.stat().st_size) for path in segments(self.folder)]
        except FileNotFoundError:  # the job that forgets by age was quicker; next time
            return
        excess = sum(size for _, size in found) - self._options.keep_bytes
        for path, size in found:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size


def _leave(segment: _Segment) -> None:
    """Cut a segment back to what is durable, as far as the disk lets us, and close it."""
    try:
        os.ftruncate(segment.descriptor, segment.size)
        os.fdatasync(segment.descriptor)
    except OSError as error:
        _LOG.warning("%s: a torn end stays (%s)", segment.path, error)
    try:
        os.close(segment.descriptor)
    except OSError as error:
        _LOG.warning("%s: %s", segment.path, error)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
