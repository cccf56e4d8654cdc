"""Note every answer in the decision log without waiting for it: an answer never fails because the log does."""

import logging
from concurrent.futures import Future

from retrank.contract.decisions import DecisionRecord
from retrank.serving.events.protocol import LogUnavailable, RecordLog

_log = logging.getLogger(__name__)


class Decisions:
    """Writes decision records; knows whether the log takes them at the moment."""

    def __init__(self, log: RecordLog | None) -> None:
        """Write to a log; None keeps no decisions."""
        self._log = log
        self.lost = 0
        """Records that are not known to be durable."""
        self._failing = False

    @property
    def kept(self) -> bool:
        """Whether decisions are kept at all."""
        return self._log is not None

    @property
    def failing(self) -> bool:
        """Whether the newest word from the log was that it cannot write."""
        return self._failing

    def note(self, record: DecisionRecord) -> None:
        """Queue a record; what becomes of it shows in `lost` and `failing`."""
        if self._log is None:
            return
        try:
            self._log.append([record.model_dump_json(exclude_none=True).encode()]).add_done_callback(self._ended)
        except LogUnavailable as error:
            self._count(error)

    def close(self) -> None:
        """Make everything queued durable."""
        if self._log is not None:
            self._log.close()

    def _ended(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            self._failing = False
        else:
            self._count(error)

    def _count(self, error: BaseException | None) -> None:
        self.lost += 1
        if not self._failing:  # the first of a row; the others only count
            _log.error("decisions are not being kept: %s", error)
        self._failing = True
