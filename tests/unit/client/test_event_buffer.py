"""The event buffer over real sockets and real files: nothing is lost, nothing is sent out of hand."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_service import Said, ScriptedService, serving

from retrank.client import Client, ClientSettings, Event, EventBuffer
from retrank.client.buffer import SpoolFull
from retrank.client.errors import ClientError

RECEIPT = Said(202, {"accepted": 1, "duplicates": 0, "rejected": []})
IMPATIENT = ClientSettings(max_attempts=1, deadline_s=2, breaker_failures=1_000)


def event(number: int) -> Event:
    return Event(event_id=f"e{number}", type="click", item_id="i1", user_id="u1")


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def received(service: ScriptedService) -> list[str]:
    return [each["event_id"] for asked in service.asked for each in asked.body["events"]]


def test_events_arrive_in_order_and_in_batches(tmp_path: Path) -> None:
    with serving(RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path / "spool", batch_size=4, flush_s=60) as buffer:
            for number in range(10):
                buffer.add(event(number))
        assert received(service) == [f"e{number}" for number in range(10)]
        assert all(len(asked.body["events"]) <= 4 for asked in service.asked)
    assert list((tmp_path / "spool").iterdir()) == []


def test_coroutines_use_the_same_buffer_and_leaving_it_stops_no_event_loop(tmp_path: Path) -> None:
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    async def scene(client: Client) -> None:
        other = asyncio.create_task(turning())
        async with EventBuffer(client, tmp_path / "spool", batch_size=4, flush_s=60) as buffer:
            for number in range(10):
                buffer.add(event(number))
            before = turns
        assert turns > before
        other.cancel()

    with serving(RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        asyncio.run(scene(client))
        assert received(service) == [f"e{number}" for number in range(10)]


def test_what_cannot_be_sent_waits_on_disk_for_the_next_process(tmp_path: Path) -> None:
    with (
        serving(Said(503)) as away,
        Client(away.url, IMPATIENT) as client,
        EventBuffer(client, tmp_path, batch_size=2, flush_s=60) as buffer,
    ):
        for number in range(5):
            buffer.add(event(number))
    assert len(list(tmp_path.glob("*.events.json"))) == 3
    with serving(RECEIPT) as back, Client(back.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, flush_s=60):
            pass
        assert received(back) == ["e0", "e1", "e2", "e3", "e4"]
    assert list(tmp_path.iterdir()) == []


def test_a_refused_batch_is_put_aside_and_does_not_block_the_others(tmp_path: Path) -> None:
    with serving(Said(422, {"detail": "no"}), RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, batch_size=1, flush_s=60) as buffer:
            buffer.add(event(1))
            buffer.flush()
            buffer.add(event(2))
        assert received(service) == ["e1", "e2"]
    (aside,) = tmp_path.iterdir()
    assert aside.name.endswith(".refused")


def test_events_rejected_one_by_one_are_counted(tmp_path: Path) -> None:
    rejected = [{"index": 0, "event_id": "e1", "detail": "/at: 2099 is too far ahead"}]
    receipt = Said(202, {"accepted": 1, "duplicates": 0, "rejected": rejected})
    with serving(receipt) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, batch_size=2, flush_s=60) as buffer:
            buffer.add(event(1))
            buffer.add(event(2))
        assert buffer.rejected == 1


def test_events_of_which_none_was_taken_are_counted_and_not_put_aside(tmp_path: Path) -> None:
    receipt = {"accepted": 0, "duplicates": 0, "rejected": [{"index": 0, "event_id": "e1", "detail": "at: too old"}]}
    refused = Said(422, {"code": "all_rejected", "detail": "no event was taken", "receipt": receipt})
    with serving(refused) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, batch_size=1, flush_s=60) as buffer:
            buffer.add(event(1))
        assert buffer.rejected == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_keeps_the_events_for_a_better_one(tmp_path: Path, status: int) -> None:
    with serving(Said(status)) as strict, Client(strict.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, batch_size=1, flush_s=60) as buffer:
            buffer.add(event(1))
        assert buffer.flush() == 1
    with serving(RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, flush_s=60):
            pass
        assert received(service) == ["e1"]
    assert list(tmp_path.iterdir()) == []


def test_refused_batches_count_in_the_bound(tmp_path: Path) -> None:
    with (
        serving(Said(422)) as service,
        Client(service.url, IMPATIENT) as client,
        EventBuffer(client, tmp_path, batch_size=1, flush_s=60, max_spooled=2) as buffer,
    ):
        for number in range(2):
            buffer.add(event(number))
            buffer.flush()
        with pytest.raises(SpoolFull, match="refused ones included"):
            buffer.add(event(3))


UNREADABLE = {
    "not JSON": Said(200, raw=b"<html>Log in to the hotel network</html>"),
    "not a receipt": Said(200, {"hello": "world"}),
    "not what its encoding says": Said(200, headers=(("Content-Encoding", "gzip"),), raw=b"not gzip"),
}


@pytest.mark.parametrize("said", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_receipt_loses_no_event_and_the_thread_goes_on(tmp_path: Path, said: Said) -> None:
    with serving(said, RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, batch_size=1, flush_s=60) as buffer:
            buffer.add(event(1))
            wait_until(lambda: received(service)[1:] == ["e1"])  # nobody flushed: the thread did both
        assert set(received(service)) == {"e1"}
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_cannot_be_written_costs_no_event(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with (
        serving(Said(503), RECEIPT) as service,
        Client(service.url, IMPATIENT) as client,
        EventBuffer(client, spool, batch_size=1, flush_s=0.02) as buffer,
    ):
        spool.rmdir()
        buffer.add(event(1))
        wait_until(lambda: received(service)[1:] == ["e1"])
        spool.mkdir()


def test_a_closed_client_leaves_the_events_on_disk(tmp_path: Path) -> None:
    with serving() as service:
        client = Client(service.url, IMPATIENT)
        with EventBuffer(client, tmp_path, flush_s=60) as buffer:
            client.close()
            buffer.add(event(1))
    assert len(list(tmp_path.glob("*.events.json"))) == 1


def test_processes_may_share_a_spool(tmp_path: Path) -> None:
    for number in range(2):
        batch = f"[{event(number).model_dump_json(exclude_none=True)}]"
        (tmp_path / f"{number}.events.json").write_text(batch)
    with (
        serving(Said(202, RECEIPT.body, hang_s=0.2), RECEIPT) as service,
        Client(service.url, IMPATIENT) as client,
        EventBuffer(client, tmp_path, flush_s=60) as first,
        EventBuffer(client, tmp_path, flush_s=60) as second,
        ThreadPoolExecutor() as pool,
    ):
        flushing = pool.submit(first.flush)
        wait_until(lambda: bool(service.asked))
        assert second.flush() == flushing.result() == 0
    assert set(received(service)) == {"e0", "e1"}
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_batch_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "0.events.json").write_text('[{"event_id":')
    with serving(RECEIPT) as service, Client(service.url, IMPATIENT) as client:
        with EventBuffer(client, tmp_path, flush_s=60) as buffer:
            buffer.add(event(1))
        assert received(service) == ["e1"]
    assert [path.name for path in tmp_path.iterdir()] == ["0.events.refused"]


def test_a_full_spool_refuses_new_events_instead_of_growing(tmp_path: Path) -> None:
    with (
        serving(Said(503)) as service,
        Client(service.url, IMPATIENT) as client,
        EventBuffer(client, tmp_path, batch_size=1, flush_s=60, max_spooled=2) as buffer,
    ):
        for number in range(2):
            buffer.add(event(number))
            buffer.flush()
        with pytest.raises(SpoolFull, match="2 unsent batches"):
            buffer.add(event(3))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_closed_buffer_takes_nothing(tmp_path: Path) -> None:
    with serving(RECEIPT) as service, Client(service.url) as client:
        buffer = EventBuffer(client, tmp_path)
        buffer.close()
        buffer.close()
        with pytest.raises(ClientError, match="closed"):
            buffer.add(event(1))


def test_a_batch_size_the_service_would_refuse_is_refused_here(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ClientError, match="1 to 1000"):
        EventBuffer(client, tmp_path, batch_size=1_001)
