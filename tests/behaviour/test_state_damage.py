"""A state file that is damaged is noticed, left alone, and replaced without a restart."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_worlds import clicks
from pydantic import SecretStr

from retrank.serving.events.applier import ApplierOptions
from retrank.serving.events.intake import Intake, Logs
from retrank.serving.events.replay import replay
from retrank.serving.events.segment_log import SegmentLog
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.profiles import ANONYMOUS, GuardedProfiles
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import ItemChange, LiveEvent, PersonEvent, StateStore, StoreUnavailable
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_schema import EVENTS, PAGE_BYTES, SEEN
from retrank.serving.telemetry.facade import Telemetry

NOW = 1_800_000_000.0
PAGE = PAGE_BYTES
PARTS = ("", "-wal", "-shm")


def clicked(person: int, number: int = 0) -> PersonEvent:
    return PersonEvent(f"u:{person}", LiveEvent(f"e{number}", "click", "i1", round(NOW * 1e6) - number, f"s{person}"))


def opened(path: Path) -> StateStore:
    return open_store(StateSettings(url=SecretStr(f"sqlite:{path}"), timeout_s=10.0))


def filled(path: Path) -> None:
    """Make a file of a few dozen pages, all in use, without a log beside it."""
    store = opened(path)
    store.apply("shop", [clicked(person, number) for person in range(60) for number in range(10)], NOW)
    store.change_items("shop", [ItemChange(f"i{n}", 0, False, True, {"title": "x" * 50}) for n in range(60)])
    store.write("bundles", {"active": "b1"}, 0)
    store.close()
    with sqlite3.connect(path) as connection:  # a copy that was under way when the store closed leaves the log behind
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def spoil(path: Path, page: int) -> None:
    """Overwrite one page, as a disk does that lost it."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\0" * PAGE)


def lose_page_while_open(path: Path, page: int) -> None:
    """The same, with everything in the file; and commit something, so that nobody goes on with what was read before."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    spoil(path, page)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO erased (tag) VALUES ('somebody')")
    connection.close()


def caught_up(intake: Intake) -> None:
    give_up_at = time.monotonic() + 30
    while intake.behind:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def root_page(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    connection.close()
    return int(page) - 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "state.sqlite"
    filled(found)
    return found


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    found = opened(path)
    yield found
    found.close()


def test_whichever_page_is_lost_the_file_is_refused_when_it_is_opened(path: Path) -> None:
    whole = path.read_bytes()
    num_pages = len(whole) // PAGE
    assert num_pages > 20
    for page in range(num_pages):
        path.write_bytes(whole)
        spoil(path, page)
        store = opened(path)
        with pytest.raises(StoreUnavailable) as caught:
            store.ping()
        assert str(path) in str(caught.value)
        assert "damaged" in str(caught.value)
        assert "retrank events replay" in str(caught.value)
        store.close()


def test_damage_that_comes_later_stops_every_call_and_is_said_once(
    path: Path, store: StateStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert store.profile("shop", "u:1", None, NOW).events
    lose_page_while_open(path, root_page(path, "entry"))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="damaged"):
            store.profile("shop", "u:1", None, NOW)
        with pytest.raises(StoreUnavailable, match="damaged"):
            store.document("bundles")  # nothing of this file is believed any more
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    ("name", "member"),
    [
        (EVENTS, "'e0' || char(0) || '[\"click\",'"),
        (EVENTS, "x'ff'"),
        (EVENTS, "CAST(x'ff' AS TEXT)"),
        (SEEN, "'[]'"),
    ],
)
def test_a_row_that_says_nothing_is_damage_and_no_answer(path: Path, store: StateStore, name: int, member: str) -> None:
    with sqlite3.connect(path) as connection:
        one = f"SELECT holder, name, member FROM entry WHERE name = {name} LIMIT 1"
        connection.execute(f"UPDATE entry SET member = {member} WHERE (holder, name, member) IN ({one})")
    connection.close()
    found = []
    for person in range(60):
        try:
            store.profile("shop", f"u:{person}", f"s{person}", NOW)
        except StoreUnavailable as error:
            found.append(str(error))
    assert found
    assert "damaged" in found[0]


def test_a_new_file_in_its_place_is_used_at_once_by_all_who_run(path: Path, store: StateStore) -> None:
    other = opened(path)
    other.ping()
    lose_page_while_open(path, root_page(path, "entry"))
    with pytest.raises(StoreUnavailable):
        store.profile("shop", "u:1", None, NOW)
    for part in PARTS:
        beside = path.with_name(path.name + part)
        if beside.exists():
            beside.rename(path.with_name("damaged.sqlite" + part))
    for number, (writer, reader) in enumerate([(store, other), (other, store)] * 3):
        assert writer.apply("shop", [clicked(1, 100 + number)], NOW) == [True]
        assert len(reader.profile("shop", "u:1", None, NOW).events) == number + 1
    other.close()


def test_slates_are_answered_without_profiles_from_a_damaged_file(path: Path, store: StateStore) -> None:
    profiles = GuardedProfiles(store, Breaker(BreakerSettings(), time.monotonic), time.monotonic, Telemetry())
    store.ping()
    lose_page_while_open(path, root_page(path, "entry"))
    assert profiles.read("shop", "u:1", None, NOW) == (ANONYMOUS, "anonymous")
    for _ in range(30):
        profiles.read("shop", "u:1", None, NOW)
    assert profiles.read("shop", "u:1", None, NOW) == (ANONYMOUS, "anonymous")
    with pytest.raises(StoreUnavailable, match="left alone"):  # the breaker is open
        profiles.known("shop", [clicked(1)], NOW)


def test_events_are_taken_meanwhile_and_the_log_fills_the_new_file(path: Path, tmp_path: Path) -> None:
    store, log = opened(path), SegmentLog(tmp_path / "log" / "events")
    intake = Intake(Logs(log), store, folder=log.folder, options=ApplierOptions(retry_s=0.01, idle_s=0.01))
    assert intake.begin(clicks(1, 2)).result(30).accepted == 2
    lose_page_while_open(path, root_page(path, "entry"))
    assert intake.begin(clicks(3)).result(30).accepted == 1
    assert intake.behind
    for part in PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)
    caught_up(intake)
    assert [event.event_id for event in store.profile("default", "u:ann", None, time.time()).events] == ["e3"]
    replay(tmp_path / "log", tmp_path / "parquet", store, now=time.time)
    found = store.profile("default", "u:ann", None, time.time()).events
    assert sorted(event.event_id for event in found) == ["e1", "e2", "e3"]
    intake.close()
    store.close()
