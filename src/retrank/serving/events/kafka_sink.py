"""The same log in a Kafka-compatible broker, through librdkafka (extra `kafka`).

`acks=all` and the idempotent producer: a record is acknowledged when all in-sync replicas of its partition have it, and
librdkafka's own retries neither repeat nor reorder it. All records of one `append` go to one partition, in order. What
the brokers make of it (replication factor, `min.insync.replicas`) is theirs to set.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from retrank.contract.errors import ConfigError
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.segment import MAX_RECORD_BYTES

try:
    from confluent_kafka import KafkaError, KafkaException, Message, Producer
except ImportError as error:  # pragma: no cover  (the extra is installed where this is tested)
    raise ConfigError("kafka_servers is set, but the package is missing; pip install 'retrank[kafka]'") from error

_LOG = logging.getLogger(__name__)
_POLL_S = 0.05
_MAX_MESSAGES = 1_000_000


@dataclass(frozen=True)
class KafkaOptions:
    """Bounds of a sink; `settings.EventSettings` describes them."""

    delivery_timeout_s: float = 10.0
    linger_ms: float = 1.0
    queue_bytes: int = 32 << 20
    further: Mapping[str, str] = field(default_factory=dict)


class KafkaLog:
    """A `RecordLog` on one topic.

    Args:
        servers: `host:port,host:port`.
        topic: created beforehand, or by the broker if it may.
        options: bounds.

    Raises:
        ConfigError: librdkafka refuses an option.
    """

    def __init__(self, servers: str, topic: str, options: KafkaOptions | None = None) -> None:
        self._topic, self._options = topic, options or KafkaOptions()
        timeout_ms = int(self._options.delivery_timeout_s * 1_000)
        configuration: dict[str, str | int | float | bool] = {
            **self._options.further,
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": self._options.linger_ms,
            "delivery.timeout.ms": timeout_ms,
            "request.timeout.ms": max(1_000, timeout_ms // 2),
            "socket.timeout.ms": max(1_000, timeout_ms // 2),
            "message.max.bytes": 2 * MAX_RECORD_BYTES,
            "queue.buffering.max.kbytes": max(1, 2 * self._options.queue_bytes // 1024),
            "queue.buffering.max.messages": _MAX_MESSAGES,
        }
        try:
            self._producer = Producer(configuration, logger=_LOG)
        except KafkaException as error:
            raise ConfigError(f"kafka_options: librdkafka refuses them ({error.args[0].str()})") from error
        self._sending = threading.RLock()  # a record that cannot be queued is reported at once
        self._keys = count()
        self._queued_bytes = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name=f"kafka-{topic}", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[bytes]) -> Future[None]:
        """Queue records in order; see `RecordLog`.

        Raises:
            ValueError: a record is empty or longer than `segment.MAX_RECORD_BYTES`.
        """
        for record in records:
            if not 0 < len(record) <= MAX_RECORD_BYTES:
                raise ValueError(f"a record has {len(record):,} bytes; expected 1 to {MAX_RECORD_BYTES:,}")
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        size = sum(len(record) for record in records)
        delivery = _Delivery(future, len(records), lambda: self._leave_queue(size))
        with self._sending:
            refusal = self._refusal(size)
            if refusal is None and records:
                self._queued_bytes += size
                self._send(records, delivery)
        if refusal is not None:
            future.set_exception(LogUnavailable(refusal))
        elif not records:
            future.set_result(None)
        return future

    def close(self) -> None:
        """Wait until everything queued is delivered or has failed."""
        if self._closing.is_set():
            return
        with self._sending:
            self._closing.set()
        self._thread.join()
        self._producer.flush(self._options.delivery_timeout_s + 1.0)

    def _refusal(self, size: int) -> str | None:
        if self._closing.is_set():
            return f"topic {self._topic}: the log is closed"
        if self._queued_bytes + size > self._options.queue_bytes:
            return f"topic {self._topic}: {self._queued_bytes:,} bytes wait, no more fit; try again shortly"
        return None

    def _send(self, records: Sequence[bytes], delivery: "_Delivery") -> None:
        key = str(next(self._keys))
        for record in records:
            try:
                self._producer.produce(self._topic, record, key=key, on_delivery=delivery.reported)
            except (BufferError, KafkaException) as error:
                delivery.failed(str(error))

    def _leave_queue(self, size: int) -> None:
        with self._sending:
            self._queued_bytes -= size

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)


class _Delivery:
    """Counts the reports of the records of one append."""

    def __init__(self, future: Future[None], num_records: int, done: Callable[[], None]) -> None:
        self._future, self._left, self._done = future, num_records, done
        self._error: str | None = None
        self._lock = threading.Lock()

    def reported(self, error: KafkaError | None, message: Message) -> None:
        """Take librdkafka's report of one record."""
        del message
        self._count(None if error is None else str(error.str()))

    def failed(self, error: str) -> None:
        """Take note of a record that was not even queued."""
        self._count(error)

    def _count(self, error: str | None) -> None:
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            over = self._left == 0
        if over:
            self._done()
            if self._error is None:
                self._future.set_result(None)
            else:
                self._future.set_exception(LogUnavailable(f"not delivered ({self._error}); try again shortly"))
