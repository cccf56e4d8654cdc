"""What was committed is copied from SQLite's log into the file while the file is in use, and the log stays short."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr

from retrank.serving.stores import sqlite_database
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import LiveEvent, PersonEvent, StateStore
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_upkeep import Upkeep

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    found = open_store(StateSettings(url=SecretStr(f"sqlite:{path}"), timeout_s=10.0))
    yield found
    found.close()


def click(store: StateStore, number: int) -> None:
    event = LiveEvent(f"e{number}", "click", "i", round(NOW * 1e6) + number)
    store.apply("shop", [PersonEvent(f"u:{number}", event)], NOW)


def within(seconds: float, happens: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def in_the_file_alone(path: Path) -> int:
    """Count rows as if there were no log; 0 while the file cannot be read: not even its tables are there yet, or it is
    just being copied into (which this reader takes no lock against).
    """
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0
    finally:
        connection.close()


def test_what_was_committed_reaches_the_file_soon_and_again_after_a_pause(path: Path, store: StateStore) -> None:
    click(store, 1)
    assert within(30, lambda: in_the_file_alone(path) == 4)  # expiry, id, event, seen
    time.sleep(0.6)  # the thread has nothing to do, and ends
    click(store, 2)
    assert within(30, lambda: in_the_file_alone(path) == 8)


def test_a_log_that_has_become_long_is_begun_anew_while_others_write(
    path: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "_MAX_LOG_PAGES", 20)
    numbers = count()
    click(store, next(numbers))
    log = path.with_name(path.name + "-wal")
    salt = log.read_bytes()[16:24]

    def begun_anew() -> bool:
        for _ in range(20):
            click(store, next(numbers))
        return log.read_bytes()[16:24] != salt

    assert within(30, begun_anew)
    assert all(store.profile("shop", f"u:{number}", None, NOW).events for number in range(next(numbers)))


def test_a_thread_that_could_not_be_started_is_started_by_the_next_write() -> None:
    copied, refusals = threading.Event(), iter([True, False])

    def start(act: Callable[[], None]) -> None:
        if next(refusals):
            raise RuntimeError("can't start new thread")
        threading.Thread(target=act, daemon=True).start()

    upkeep = Upkeep(copied.set, every_s=0.001, start=start)
    upkeep.wrote()  # what was committed is committed
    assert not copied.wait(0.05)
    upkeep.wrote()
    assert copied.wait(30)
    upkeep.close()


def test_a_copy_that_ends_its_thread_is_begun_anew_by_the_next_write() -> None:
    copied, failures, ended = threading.Event(), iter([True, False]), threading.Event()

    def copy() -> None:
        if next(failures):
            raise MemoryError
        copied.set()

    def start(act: Callable[[], None]) -> None:
        def run() -> None:
            try:
                act()
            except MemoryError:
                ended.set()

        threading.Thread(target=run, daemon=True).start()

    upkeep = Upkeep(copy, every_s=0.001, start=start)
    upkeep.wrote()
    assert ended.wait(30)
    upkeep.wrote()
    assert copied.wait(30)
    upkeep.close()


def test_much_that_was_written_is_copied_at_once_and_a_little_waits() -> None:
    copied = threading.Event()
    upkeep = Upkeep(copied.set, every_s=60.0, soon_rows=100)
    upkeep.wrote(99)
    assert not copied.wait(0.2)
    upkeep.wrote(1)
    assert copied.wait(30)
    copied.clear()
    upkeep.wrote(99)  # counted anew
    assert not copied.wait(0.2)
    upkeep.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.0005])
def test_no_write_goes_unnoticed_when_the_thread_is_just_ending(pause_s: float) -> None:
    """The newest write is copied in the end, whenever it came."""
    written, copied = 0, 0

    def copy() -> None:
        nonlocal copied
        copied = written

    def up_to_date() -> bool:
        return copied == written

    upkeep = Upkeep(copy, every_s=0.0005)
    for number in range(1, 300):
        written = number
        upkeep.wrote()
        time.sleep(pause_s)
        if number % 10 == 0:
            assert within(30, up_to_date)
    upkeep.close()


def test_a_new_file_has_small_pages_and_one_with_larger_pages_is_used_as_it_is(path: Path, store: StateStore) -> None:
    click(store, 1)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (2_048,)
    older = path.with_name("older.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA page_size=4096")
        connection.execute(f"VACUUM INTO '{older}'")
    with sqlite3.connect(older) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (4_096,)
        connection.execute("PRAGMA journal_mode=WAL")
    again = open_store(StateSettings(url=SecretStr(f"sqlite:{older}"), timeout_s=10.0))
    click(again, 2)
    assert again.profile("shop", "u:2", None, NOW).events
    again.close()
