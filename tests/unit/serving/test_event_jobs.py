from pathlib import Path

import pytest
from event_worlds import click, clicks

from retrank.cli import main
from retrank.contract.events import EventBatch
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.intake import open_intake
from retrank.serving.events.settings import EventSettings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import StateStore
from retrank.serving.stores.settings import StateSettings

WAIT_S = 20


def store_at(path: Path) -> StateStore:
    return open_store(StateSettings.model_validate({"url": f"sqlite:{path}", "timeout_s": 5}))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three events of ann and one of bob that were taken, and one that was refused, by a service that has ended."""
    intake = open_intake(EventSettings(directory=tmp_path / "log"), store_at(tmp_path / "state.sqlite"))
    batch = EventBatch(events=[click(1), click(2), click(3), click(4, user_id="bob"), click(5, type="glance")])
    assert intake.begin(batch).result(WAIT_S).accepted == 4
    intake.close()
    return tmp_path / "log"


def ids_of(store: StateStore, person: str) -> list[str]:
    return [event.event_id for event in store.profile("default", person, None, 0.0).events]


def test_compact_publishes_and_says_what_it_did(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "compact", f"directory={directory}"]) == 0
    said = capsys.readouterr().out
    assert "1 segments, 4 events: 4 published, 0 repeated, 0 erased" in said
    assert f"partitions: {directory / 'parquet'}" in said
    assert main(["events", "compact", f"directory={directory}"]) == 0
    assert "0 segments, 0 events" in capsys.readouterr().out


def test_replay_fills_a_new_store(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["events", "compact", f"directory={directory}"])
    words = ["events", "replay", f"directory={directory}", f"state.url=sqlite:{tmp_path / 'new.sqlite'}"]
    assert main(words) == 0
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "4 events read, 4 of them new to the store" in said
    assert "4 events read, 0 of them new to the store" in said
    assert ids_of(store_at(tmp_path / "new.sqlite"), "u:ann") == ["e1", "e2", "e3"]


def test_replay_may_begin_at_a_moment(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["events", "replay", f"directory={directory}", f"state.url=sqlite:{tmp_path / 'new.sqlite'}"]
    assert main([*words, "since=2100-01-01T00:00:00Z"]) == 0
    assert "0 events read" in capsys.readouterr().out
    assert main([*words, "since=2100-01-01T00:00:00"]) == 2
    assert "since has no time zone" in capsys.readouterr().err


def test_dead_letters_are_listed_and_sent_again(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["events", "replay", f"directory={directory}", f"state.url=sqlite:{tmp_path / 'state.sqlite'}"]
    assert main([*words, "dead_letters=list"]) == 0
    said = capsys.readouterr().out
    assert '"event_id":"e5"' in said
    assert "type: Input should be" in said
    assert main([*words, "dead_letters=resubmit"]) == 0
    assert "0 accepted, 0 duplicates, 1 refused again" in capsys.readouterr().out


def test_dead_letters_of_an_erased_person_are_neither_shown_nor_sent_again(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    intake = open_intake(EventSettings(directory=directory), store_at(tmp_path / "state.sqlite"))
    intake.erase("default", "u:ann").result(WAIT_S)
    intake.begin(EventBatch(events=[click(6, type="glance"), click(7, type="glance", user_id=None)])).result(WAIT_S)
    intake.close()
    words = ["events", "replay", f"directory={directory}", f"state.url=sqlite:{tmp_path / 'state.sqlite'}"]
    assert main([*words, "dead_letters=list"]) == 0
    said = capsys.readouterr().out
    assert "e5" not in said
    assert "e6" in said  # arrived after the erasure
    assert "e7" in said  # names nobody
    assert main([*words, "dead_letters=resubmit"]) == 0
    assert "2 refused again" in capsys.readouterr().out


def test_status_shows_writers_partitions_and_erasures(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["events", "compact", f"directory={directory}"])
    store = store_at(directory.parent / "state.sqlite")
    intake = open_intake(EventSettings(directory=directory), store)
    intake.begin(clicks(9)).result(WAIT_S)
    intake.erase("default", "u:ann").result(WAIT_S)
    capsys.readouterr()
    assert main(["events", "status", f"directory={directory}"]) == 0
    said = capsys.readouterr().out
    assert "alive, 1 segments" in said
    assert "2 records" in said
    assert "published 4 events in 1 files" in said
    assert "erasures  0 done, 1 to do" in said
    intake.close()


def test_damage_is_an_exit_status(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = writers(directory / "events")
    (path,) = segments(folder)
    content = bytearray(path.read_bytes())
    content[80] ^= 1
    path.write_bytes(content)
    for act in ("status", "compact"):
        assert main(["events", act, f"directory={directory}"]) == 2
        assert "a damaged record at byte 24" in capsys.readouterr().err
    assert path.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["events"], "act has no value; set act="),
        (["events", "compact"], "directory has no value"),
        (["events", "explode", "directory=."], "act: Input should be 'compact', 'replay' or 'status'"),
        (["events", "compact", "directory=no-such-folder"], "no such folder; expected the directory of an event log"),
        (["events", "replay", "directory=.", "state.url=mongo:x"], "state url"),
    ],
)
def test_mistakes_get_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
