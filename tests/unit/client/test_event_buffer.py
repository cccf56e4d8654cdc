"""The event buffer over real sockets and real files: nothing is lost, nothing is sent out of hand."""

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
