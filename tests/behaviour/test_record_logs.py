"""What every `RecordLog` promises, on real files and on librdkafka's mock cluster over real sockets."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from event_worlds import DictProfiles, clicks, raw_records

from retrank.serving.events.intake import Intake, Logs
from retrank.serving.events.kafka_sink import KafkaLog, KafkaOptions
from retrank.serving.events.protocol import LogUnavailable, RecordLog
from retrank.serving.events.records import decode_event
from retrank.serving.events.segment import MAX_RECORD_BYTES
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions

WAIT_S = 20


class World(Protocol):
    """A place where logs are kept: open one, read it back, break it."""

    def open(self, queue_bytes: int = 1 << 20) -> RecordLog: ...
    def records(self) -> list[bytes]: ...
    def broken(self) -> AbstractContextManager[None]: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, queue_bytes: int = 1 << 20) -> RecordLog:
        return SegmentLog(self._path, SegmentOptions(queue_bytes=queue_bytes, retry_s=0.0))

    def records(self) -> list[bytes]:
        return raw_records(self._path)

    @contextmanager
    def broken(self) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class MockCluster:
    """Brokers that live in a producer of their own, as librdkafka makes them for tests."""

    def __init__(self) -> None:
        self._host: Producer | None = Producer({"test.mock.num.brokers": 3})
        found = self._host.list_topics(timeout=WAIT_S).brokers.values()
        self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in found)

    def open(self, queue_bytes: int = 1 << 20) -> RecordLog:
        return KafkaLog(self.servers, "events", KafkaOptions(delivery_timeout_s=2.0, queue_bytes=queue_bytes))

    def records(self) -> list[bytes]:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "test", "enable.partition.eof": True})
        partitions = list(consumer.list_topics("events", timeout=WAIT_S).topics["events"].partitions)
        consumer.assign([TopicPartition("events", number, 0) for number in partitions])
        found: list[bytes] = []
        ended: set[int | None] = set()
        while len(ended) < len(partitions):
            message = consumer.poll(WAIT_S)
            assert message is not None
            if message.error():
                ended.add(message.partition())
            else:
                found.append(message.value() or b"")
        consumer.close()
        return found

    @contextmanager
    def broken(self) -> Iterator[None]:
        self._host = None
        yield


@pytest.fixture(params=["segments", "kafka"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return Folder(tmp_path / "events") if request.param == "segments" else MockCluster()


def numbered(first: int, count: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(first, first + count)]


def test_what_is_acknowledged_can_be_read(world: World) -> None:
    log = world.open()
    log.append(numbered(0, 5)).result(WAIT_S)
    assert sorted(world.records()) == numbered(0, 5)
    log.close()


def test_the_records_of_one_append_stay_in_order(world: World) -> None:
    log = world.open()
    log.append(numbered(0, 100)).result(WAIT_S)
    log.close()
    assert world.records() == numbered(0, 100)


def test_closing_makes_everything_queued_durable(world: World) -> None:
    log = world.open()
    futures = [log.append(numbered(10 * number, 10)) for number in range(20)]
    log.close()
    assert all(future.result(0) is None for future in futures)
    assert sorted(world.records()) == sorted(numbered(0, 200))


def test_many_threads_may_append_at_once(world: World) -> None:
    log = world.open()

    def write(first: int) -> None:
        for number in range(first, first + 25):
            log.append([b'{"n":%d}' % number]).result(WAIT_S)

    threads = [threading.Thread(target=write, args=(1_000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(world.records()) == sorted(record for index in range(4) for record in numbered(1_000 * index, 25))


def test_a_full_queue_refuses_at_once(world: World) -> None:
    log = world.open(queue_bytes=1_000)
    future = log.append([b"x" * 2_000])
    assert future.done()
    with pytest.raises(LogUnavailable, match="no more fit"):
        future.result(0)
    log.append([b"y" * 500]).result(WAIT_S)
    log.close()
    assert world.records() == [b"y" * 500]


def test_a_closed_log_refuses(world: World) -> None:
    log = world.open()
    log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        log.append([b"x"]).result(WAIT_S)
    log.close()


@pytest.mark.parametrize("record", [b"", b"x" * (MAX_RECORD_BYTES + 1)])
def test_a_record_of_the_wrong_size_is_a_mistake_of_the_caller(world: World, record: bytes) -> None:
    log = world.open(queue_bytes=4 * MAX_RECORD_BYTES)
    with pytest.raises(ValueError, match="bytes; expected 1 to"):
        log.append([record])
    log.close()


def test_nothing_is_durable_where_there_is_nothing(world: World) -> None:
    log = world.open()
    assert log.append([]).result(WAIT_S) is None
    log.close()


def test_a_failure_reaches_the_caller(world: World) -> None:
    log = world.open()
    with world.broken():
        begun = time.monotonic()
        with pytest.raises(LogUnavailable, match="try again shortly"):
            log.append([b"lost"]).result(WAIT_S)
        assert time.monotonic() - begun < WAIT_S
    log.close()


def test_an_intake_makes_events_durable_and_applies_them(world: World) -> None:
    profiles = DictProfiles()
    intake = Intake(Logs(world.open()), profiles)
    assert intake.begin(clicks(1, 2)).result(WAIT_S).accepted == 2
    assert intake.begin(clicks(2, 3)).result(WAIT_S).duplicates == 1
    intake.close()
    in_log = [record.event.event_id for raw in world.records() if (record := decode_event(raw)).event]
    assert sorted(in_log) == profiles.ids() == ["e1", "e2", "e3"]


def test_a_caller_cannot_take_back_what_is_queued(world: World) -> None:
    log = world.open()
    future = log.append([b"stays"])
    assert not future.cancel()
    log.close()
    assert world.records() == [b"stays"]
