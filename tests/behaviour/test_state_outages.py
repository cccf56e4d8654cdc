"""A state store that is away, stuck or broken says so soon, and tells no secrets."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis_processes import RedisProcess, move_slot, running_cluster, running_redis

from retrank.contract.errors import ConfigError
from retrank.serving.stores.entries import tag
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import ItemChange, LiveEvent, PersonEvent, StateStore, StoreUnavailable
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_schema import APPLICATION_ID

NOW = 1_800_000_000.0
PERSON = "u:ann.private"
EVENT = PersonEvent(PERSON, LiveEvent("private-event", "click", "private-item", round(NOW * 1e6), "private-session"))
CALLS: dict[str, Callable[[StateStore], object]] = {
    "apply": lambda store: store.apply("shop", [EVENT], NOW),
    "known": lambda store: store.known("shop", [EVENT], NOW),
    "profile": lambda store: store.profile("shop", PERSON, "private-session", NOW),
    "export": lambda store: list(store.export("shop", PERSON)),
    "erased_since": lambda store: store.erased_since(0),
    "forgotten_changes": lambda store: store.forgotten_changes("shop"),
    "erase": lambda store: store.erase("shop", PERSON),
    "change_items": lambda store: store.change_items("shop", [ItemChange("private-item", 0, True, True, None)]),
    "item_changes": lambda store: store.item_changes("shop", 0),
    "forget_changes": lambda store: store.forget_changes("shop", 9),
    "document": lambda store: store.document("bundles"),
    "write": lambda store: store.write("bundles", {}, 0),
    "beat": lambda store: store.beat("replica", {}, 1.0, NOW),
    "beats": lambda store: store.beats(NOW),
    "ping": lambda store: store.ping(),
}


def stored_at(url: str, timeout_s: float = 0.2) -> StateStore:
    return open_store(StateSettings(url=SecretStr(url), timeout_s=timeout_s))


def assert_every_call_says_unavailable(store: StateStore, secret: str = "private") -> None:
    for name, call in CALLS.items():
        with pytest.raises(StoreUnavailable) as caught:
            call(store)
        assert secret not in str(caught.value), name
        assert caught.value.__cause__ is None or secret not in str(caught.value.__cause__), name


def patiently(call: Callable[[], object]) -> None:
    """Call until it succeeds; short time-outs pass on a machine that is busy with other things."""
    for _ in range(100):
        with suppress(StoreUnavailable):
            call()
            return
    call()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    with running_redis(tmp_path) as process:
        yield process


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_server_that_was_never_there(scheme: str, server: RedisProcess) -> None:
    server.stop()
    store = stored_at(f"{scheme}://127.0.0.1:{server.port}")
    assert_every_call_says_unavailable(store)
    store.close()


def test_a_server_that_goes_away_and_comes_back_empty(server: RedisProcess, tmp_path: Path) -> None:
    store = stored_at(server.url, timeout_s=5)
    assert store.apply("shop", [EVENT], NOW) == [True]
    server.stop()
    assert_every_call_says_unavailable(store)
    with running_redis(tmp_path, port=server.port):
        for call in CALLS.values():
            call(store)
        assert store.apply("shop", [EVENT], NOW) == [True]
    store.close()


def test_a_server_that_hangs(server: RedisProcess) -> None:
    """It answers no call until the last one was given up, so none of them waited for it."""
    store = stored_at(server.url, timeout_s=0.1)
    patiently(store.ping)
    server.freeze()
    assert_every_call_says_unavailable(store)
    server.thaw()
    patiently(store.ping)
    patiently(lambda: store.profile("shop", PERSON, None, NOW))
    store.close()


def _answers(store: StateStore, person: str) -> bool:
    try:
        return store.apply("shop", [EVENT._replace(person=person)], NOW) == [True]
    except StoreUnavailable:
        return False


@pytest.fixture(scope="module")
def spare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisProcess]]:
    """A Cluster that tests may rearrange."""
    with running_cluster(tmp_path_factory.mktemp("spare")) as nodes:
        yield nodes


def test_people_whose_slot_moved_to_another_node_are_found_there(spare_cluster: list[RedisProcess]) -> None:
    store = stored_at(spare_cluster[0].cluster_url, timeout_s=5)
    assert store.profile("shop", PERSON, None, NOW).events == ()
    move_slot(f"{{{tag('person', 'shop', PERSON)}}}", spare_cluster)
    assert store.apply("shop", [EVENT], NOW) == [True]
    assert store.apply("shop", [EVENT], NOW) == [False]
    assert store.profile("shop", PERSON, None, NOW).events == (EVENT.event,)
    store.close()


def test_a_cluster_answers_for_the_people_of_the_nodes_that_are_up(spare_cluster: list[RedisProcess]) -> None:
    store = stored_at(spare_cluster[0].cluster_url, timeout_s=0.5)
    patiently(store.ping)
    spare_cluster[2].freeze()
    answered = [_answers(store, f"u:{n}") for n in range(8)]
    spare_cluster[2].thaw()
    store.close()
    assert set(answered) == {True, False}


def test_a_password_is_needed_and_never_shown(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--requirepass", "right-private", password="right-private") as server:
        wrong = stored_at(f"redis://:wrong-private@127.0.0.1:{server.port}", timeout_s=5)
        assert_every_call_says_unavailable(wrong)
        with pytest.raises(StoreUnavailable, match="AuthenticationError"):
            wrong.ping()
        right = stored_at(f"redis://:right-private@127.0.0.1:{server.port}", timeout_s=5)
        assert right.apply("shop", [EVENT], NOW) == [True]
        wrong.close()
        right.close()


def _fill(store: StateStore) -> None:
    for n in range(1_000):
        store.write(f"d{n}", "x" * 100_000, 0)


def test_a_server_without_memory_refuses_writes_and_still_reads(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        store = stored_at(server.url, timeout_s=5)
        store.profile("shop", PERSON, None, NOW)
        with pytest.raises(StoreUnavailable, match="OutOfMemory"):
            _fill(store)
        store.profile("shop", PERSON, None, NOW)
        store.close()


def _garbage(path: Path) -> str:
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    return "SQLITE_NOTADB"


def _folder(path: Path) -> str:
    path.mkdir()
    return "SQLITE_CANTOPEN"


def _missing_folder(path: Path) -> str:
    path.symlink_to(path.parent / "nowhere" / "state.sqlite")
    return "SQLITE_CANTOPEN"


def _of_others(path: Path) -> str:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    return "another application"


def _of_tomorrow(path: Path) -> str:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE ours (x)")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    return "schema 99, expected one of retrank's of schema 2"


def _damaged(path: Path) -> str:
    store = stored_at(f"sqlite:{path}")
    store.apply("shop", [EVENT], NOW)
    store.close()
    pages = bytearray(path.read_bytes())
    pages[4_096:] = b"\xff" * (len(pages) - 4_096)
    path.write_bytes(pages)
    return "SQLITE_CORRUPT"


@pytest.mark.parametrize("spoil", [_garbage, _folder, _missing_folder, _of_others, _of_tomorrow, _damaged])
def test_a_file_that_cannot_be_used_is_named_with_the_reason(spoil: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    reason = spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    store = stored_at(f"sqlite:{path}")
    with pytest.raises(StoreUnavailable) as caught:
        store.apply("shop", [EVENT], NOW)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "private" not in str(caught.value)
    store.close()
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_that_somebody_keeps_locked_can_be_read_but_not_written(tmp_path: Path) -> None:
    store = stored_at(f"sqlite:{tmp_path / 'state.sqlite'}", timeout_s=0.1)
    store.apply("shop", [EVENT], NOW)
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert len(store.profile("shop", PERSON, None, NOW).events) == 1
    for name in ("apply", "erase", "change_items", "write", "beat", "ping"):
        with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
            CALLS[name](store)
    other.execute("ROLLBACK")
    other.close()
    assert store.apply("shop", [EVENT], NOW) == [False]
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = stored_at(f"sqlite:{tmp_path / 'state.sqlite'}")
    store.ping()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.ping()


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "private", "redis://:private@host:port", "http://:private@h", "redis+cluster://:private@h:x"]
)
def test_a_url_that_names_no_store_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stored_at(url)
    assert ":private" not in str(caught.value)


def test_settings_do_not_print_the_url() -> None:
    settings = StateSettings(url=SecretStr("redis://:private@host:6379"))
    assert "private" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
