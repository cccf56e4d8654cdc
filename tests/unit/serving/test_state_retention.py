"""What nobody touches again goes away on its own, little by little, and shows no id while it is there."""

import sqlite3
from pathlib import Path

from pydantic import SecretStr
from redis import Redis
from redis_processes import RedisProcess
from state_backends import Backend

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import LiveEvent, PersonEvent
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_schema import EXPIRES

NOW = 1_800_000_000.0
DAY = 86_400.0


def clicks(person: str, count: int, now: float = NOW) -> list[PersonEvent]:
    event = LiveEvent("", "click", "i", round(now * 1e6), "private-session")
    return [PersonEvent(person, event._replace(event_id=f"e{n}", item_id=f"i{n}")) for n in range(count)]


def test_sqlite_removes_expired_people_a_few_rows_with_every_write(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = open_store(StateSettings(url=SecretStr(f"sqlite:{path}"), timeout_s=10.0))
    store.apply("shop", clicks("u:busy", 900), NOW)
    for n in range(20):
        store.apply("shop", clicks(f"u:{n}", 2), NOW)

    def rows() -> int:
        with sqlite3.connect(path) as connection:
            return int(connection.execute(f"SELECT count(*) FROM entry WHERE name > {EXPIRES}").fetchone()[0])

    full, removed = rows(), []
    for n in range(30):
        before = rows()
        store.apply("shop", clicks("u:new", 1, NOW + 400 * DAY), NOW + 400 * DAY + n)
        removed.append(before - rows())
    assert full > 1_900
    assert rows() == 5  # of the last event: id, event, seen, session, and the event in the session
    assert max(removed) <= 500 + 100  # the session they share is trimmed as it is written
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(DISTINCT holder) FROM entry").fetchone()[0] == 2
    connection.close()


def test_every_key_of_a_person_in_redis_expires_and_none_names_the_person(redis_server: RedisProcess) -> None:
    backend = Backend.of_redis([redis_server])
    store = backend.open(events_ttl_s=50.0, seen_ttl_s=60.0, session_ttl_s=40.0)
    store.apply("shop", clicks("u:private", 3), NOW)
    with Redis(host="127.0.0.1", port=redis_server.port, decode_responses=True) as client:
        keys = list(map(str, client.scan_iter()))
        left_s = [client.pttl(key) / 1_000 for key in keys]
    backend.close()
    assert "private" not in " ".join(keys)
    assert len(keys) == 5
    assert all(0 < left <= 7 * DAY for left in left_s)


def test_people_spread_over_a_cluster_and_each_stays_in_one_place(redis_cluster: list[RedisProcess]) -> None:
    backend = Backend.of_redis(redis_cluster)
    backend.open().apply("shop", [event for n in range(30) for event in clicks(f"u:{n}", 1)], NOW)
    places: dict[str, set[int]] = {}
    for node in redis_cluster:
        with Redis(host="127.0.0.1", port=node.port, decode_responses=True) as client:
            for key in map(str, client.scan_iter()):
                places.setdefault(key.split(":")[1], set()).add(node.port)
    backend.close()
    assert len(places) == 31  # 30 people and a session
    assert all(len(ports) == 1 for ports in places.values())
    assert set.union(*places.values()) == {node.port for node in redis_cluster}
