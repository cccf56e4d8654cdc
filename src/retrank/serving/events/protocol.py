"""Where durable records go: the embedded log, or a Kafka-compatible broker."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from retrank.contract.errors import RetrankError


class LogUnavailable(RetrankError):  # noqa: N818  (a state, not a mistake)
    """Records cannot be made durable now: the disk is full or failing, the broker is away, or the queue is full."""


class RecordLog(Protocol):
    """An append-only log of records; each is a JSON object in UTF-8."""

    def append(self, records: Sequence[bytes]) -> Future[None]:
        """Queue records in order; the future ends when all are durable, or with `LogUnavailable`.

        Records whose future failed may or may not be in the log. Never blocks for longer than queueing takes.
        """
        ...

    def close(self) -> None:
        """Make everything queued durable and let go of files and connections."""
        ...
