"""Profiles, sessions and seen memory keep their promises in every store."""

from itertools import pairwise

import pytest
from state_backends import Backend

from retrank.serving.stores import redis_profiles, sqlite_profiles
from retrank.serving.stores.entries import tag
from retrank.serving.stores.protocol import Erased, LiveEvent, PersonEvent, Profile, StateStore

NOW = 1_800_000_000.0
DAY = 86_400.0
T = "shop"


def us(seconds_ago: float) -> int:
    return round((NOW - seconds_ago) * 1e6)


def clicked(person: str, event_id: str, item: str = "i", ago: float = 10.0, session: str | None = None) -> PersonEvent:
    return PersonEvent(person, LiveEvent(event_id, "click", item, us(ago), session))


def ids(profile: Profile) -> list[str]:
    return [event.event_id for event in profile.events]


def read(store: StateStore, person: str, session: str | None = None, now: float = NOW) -> Profile:
    return store.profile(T, person, session, now)


@pytest.fixture
def store(backend: Backend) -> StateStore:
    return backend.open()


def test_nobody_knows_somebody_new(store: StateStore) -> None:
    assert read(store, "u:ann", "s1") == Profile((), {})
    assert list(store.export(T, "u:ann")) == []
    assert store.erase(T, "u:ann") == 0


def test_an_event_is_applied_once_however_often_it_is_sent(store: StateStore) -> None:
    twice = [clicked("u:ann", "e1"), clicked("u:ann", "e1")]
    assert store.known(T, twice, NOW) == [False, False]
    assert store.apply(T, twice, NOW) == [True, False]
    assert store.apply(T, [*twice, clicked("u:ann", "e2")], NOW + 1) == [False, False, True]
    assert store.known(T, [clicked("u:ann", "e1"), clicked("u:ann", "e3")], NOW + 1) == [True, False]
    assert ids(read(store, "u:ann")) == ["e1", "e2"]


def test_the_same_id_from_two_people_is_two_events(store: StateStore) -> None:
    events = [clicked("u:ann", "e1", session="s"), clicked("u:bob", "e1", session="s")]
    assert store.apply(T, events, NOW) == [True, True]
    assert len(read(store, "u:ann", "s").events) == 2


def test_a_repeated_id_counts_as_it_was_sent_first(store: StateStore) -> None:
    changed = clicked("u:ann", "e1", item="other", session="s2")
    assert store.apply(T, [clicked("u:ann", "e1", session="s1"), changed], NOW) == [True, False]
    assert store.apply(T, [changed], NOW) == [False]
    assert set(read(store, "u:ann").seen) == {"i"}
    assert [ids(read(store, "a:other", name)) for name in ("s1", "s2")] == [["e1"], []]


def test_an_id_is_remembered_for_seven_days(store: StateStore) -> None:
    store.apply(T, [clicked("u:ann", "e1")], NOW)
    event = [clicked("u:ann", "e1")]
    assert store.known(T, event, NOW + 7 * DAY - 1) == [True]
    assert store.known(T, event, NOW + 7 * DAY) == [False]
    assert store.apply(T, event, NOW + 7 * DAY) == [True]
    assert ids(read(store, "u:ann", now=NOW + 7 * DAY)) == ["e1"]


def test_an_empty_batch_does_nothing(store: StateStore) -> None:
    assert store.apply(T, [], NOW) == []
    assert store.known(T, [], NOW) == []


def test_events_come_oldest_first_whatever_their_order_of_arrival(store: StateStore) -> None:
    store.apply(T, [clicked("u:ann", "b", ago=5), clicked("u:ann", "c", ago=1)], NOW)
    store.apply(T, [clicked("u:ann", "a", ago=9), clicked("u:ann", "aa", ago=9)], NOW)
    assert ids(read(store, "u:ann")) == ["a", "aa", "b", "c"]
    assert all(one.time_us <= two.time_us for one, two in pairwise(read(store, "u:ann").events))


def test_an_event_comes_back_as_it_was(store: StateStore) -> None:
    odd = LiveEvent('e"\x00{}é\n', "custom", "item \x00 ✓ {}", us(3), "s:{1}")
    store.apply(T, [PersonEvent("u:{ann}\x00", odd)], NOW)
    assert read(store, "u:{ann}\x00") == Profile((odd,), {odd.item_id: {"custom": odd.time_us}})
    assert read(store, "a:other", odd.session_id).events == (odd,)


def test_only_the_newest_events_of_a_person_are_kept(backend: Backend) -> None:
    store = backend.open(max_events_per_person=3)
    store.apply(T, [clicked("u:ann", f"e{n}", ago=100 - n) for n in range(10)], NOW)
    store.apply(T, [clicked("u:ann", "late", ago=1_000)], NOW)
    assert ids(read(store, "u:ann")) == ["e7", "e8", "e9"]
    assert store.known(T, [clicked("u:ann", "late")], NOW) == [True]


def test_only_the_newest_events_of_a_session_are_kept(backend: Backend) -> None:
    store = backend.open(max_events_per_session=2)
    store.apply(T, [clicked("u:ann", f"e{n}", ago=100 - n, session="s") for n in range(5)], NOW)
    assert ids(read(store, "a:other", "s")) == ["e3", "e4"]


def test_only_the_newest_seen_items_are_kept(backend: Backend) -> None:
    store = backend.open(max_seen_per_person=2)
    store.apply(T, [clicked("u:ann", f"e{n}", item=f"i{n}", ago=100 - n) for n in range(5)], NOW)
    assert set(read(store, "u:ann").seen) == {"i3", "i4"}


def test_only_the_newest_event_ids_are_remembered(backend: Backend) -> None:
    store = backend.open(max_event_ids_per_person=2)
    for n in range(4):
        store.apply(T, [clicked("u:ann", f"e{n}")], NOW + n)
    assert store.known(T, [clicked("u:ann", f"e{n}") for n in range(4)], NOW + 4) == [False, False, True, True]


def test_a_person_in_many_sessions_at_once_is_kept_under_the_first_of_them(backend: Backend) -> None:
    store = backend.open(max_sessions_per_person=2)
    store.apply(T, [clicked("u:ann", f"e{n}", session=f"s{n}") for n in range(3)], NOW)
    assert [ids(read(store, "a:other", f"s{n}")) for n in range(3)] == [["e0"], ["e1"], []]
    assert ids(read(store, "u:ann")) == ["e0", "e1", "e2"]
    store.apply(T, [clicked("u:ann", "e3", session="s0", ago=0)], NOW)
    assert ids(read(store, "a:other", "s0")) == ["e0", "e3"]


def test_seen_tells_when_last_by_kind(store: StateStore) -> None:
    shown = PersonEvent("u:ann", LiveEvent("e1", "impression", "i", us(9)))
    store.apply(T, [clicked("u:ann", "e2", ago=3), shown, clicked("u:ann", "e3", ago=5)], NOW)
    assert read(store, "u:ann").seen == {"i": {"impression": us(9), "click": us(3)}}


def test_what_was_done_before_logging_in_counts(store: StateStore) -> None:
    store.apply(T, [clicked("s:s1", "e1", item="x", ago=9, session="s1")], NOW)
    store.apply(T, [clicked("u:ann", "e2", item="y", ago=5)], NOW)
    store.apply(T, [clicked("u:ann", "e3", item="x", ago=1, session="s1")], NOW)
    assert ids(read(store, "u:ann", "s1")) == ["e1", "e2", "e3"]
    assert ids(read(store, "u:ann")) == ["e2", "e3"]
    assert read(store, "u:ann", "s1").seen == {"x": {"click": us(1)}, "y": {"click": us(5)}}


def test_everything_is_forgotten_in_time(backend: Backend) -> None:
    store = backend.open(events_ttl_s=5 * DAY, seen_ttl_s=2 * DAY, session_ttl_s=DAY)
    store.apply(T, [clicked("u:ann", "e1", ago=0, session="s")], NOW)

    def left(days: float) -> tuple[list[str], list[str], list[str]]:
        own = read(store, "u:ann", now=NOW + days * DAY)
        return ids(own), list(own.seen), ids(read(store, "a:other", "s", now=NOW + days * DAY))

    assert left(0.9) == (["e1"], ["i"], ["e1"])
    assert left(1) == (["e1"], ["i"], [])
    assert left(2) == (["e1"], [], [])
    assert left(5) == ([], [], [])


def test_tenants_never_mix(store: StateStore) -> None:
    event = [clicked("u:ann", "e1", session="s")]
    assert store.apply("one", event, NOW) == [True]
    assert store.known("two", event, NOW) == [False]
    assert store.profile("two", "u:ann", "s", NOW) == Profile((), {})
    assert store.apply("two", event, NOW) == [True]
    assert store.erase("one", "u:ann") > 0
    assert ids(store.profile("two", "u:ann", None, NOW)) == ["e1"]


def test_two_stores_on_one_backend_see_each_other_at_once(backend: Backend) -> None:
    one, two = backend.open(), backend.open()
    for n in range(20):
        writer, reader = (one, two) if n % 2 else (two, one)
        writer.apply(T, [clicked("u:ann", f"e{n:02}", ago=1, session="s")], NOW)
        assert ids(read(reader, "u:ann"))[-1] == f"e{n:02}"
        assert ids(read(reader, "a:other", "s"))[-1] == f"e{n:02}"


def test_export_holds_all_that_is_kept(store: StateStore) -> None:
    store.apply(T, [clicked("u:ann", "e1", session="s"), clicked("u:bob", "e2", session="s")], NOW)
    event = {"event_id": "e1", "kind": "click", "item_id": "i", "time_us": us(10), "session_id": "s"}
    expected = [
        {"what": "event", **event},
        {"what": "seen", "item_id": "i", "kind": "click", "time_us": us(10)},
        {"what": "event_id", "event_id": "e1", "applied_at_us": round(NOW * 1e6)},
        {"what": "session_event", **event},
    ]
    assert list(store.export(T, "u:ann")) == expected


def test_erasing_leaves_nothing_and_touches_nobody_else(store: StateStore) -> None:
    mine = [clicked("u:ann", f"e{n}", item=f"i{n}", session=f"s{n % 2}") for n in range(4)]
    store.apply(T, [*mine, clicked("u:bob", "f", session="s1")], NOW)
    kept = len(list(store.export(T, "u:ann")))
    assert store.erase(T, "u:ann") == kept == 16
    assert list(store.export(T, "u:ann")) == []
    assert read(store, "u:ann", "s0") == Profile((), {})
    assert ids(read(store, "u:ann", "s1")) == ["f"]
    assert store.known(T, mine, NOW) == [False] * 4
    assert store.erase(T, "u:ann") == 0


def test_every_replica_hears_who_was_erased_and_in_which_sessions(backend: Backend) -> None:
    here, there = backend.open(), backend.open()
    assert there.erased_since(0) == Erased(0, ())
    here.apply(T, [clicked("u:ann", "e1", session="s1"), clicked("u:bob", "e1", session="s2")], NOW)
    here.erase(T, "u:ann")
    heard = there.erased_since(0)
    assert set(heard.tags or ()) == {tag("person", T, "u:ann"), tag("session", T, "s1")}
    assert there.erased_since(heard.version) == Erased(heard.version, ())
    here.erase("other", "u:nobody")  # of whom a replica may still remember something
    again = there.erased_since(heard.version)
    assert again.version > heard.version
    assert set(again.tags or ()) == {tag("person", "other", "u:nobody")}


def test_a_replica_that_knows_of_more_erasures_than_the_store_forgets_everybody(store: StateStore) -> None:
    """The store lost them, or another one took its place."""
    assert store.erased_since(7) == Erased(0, None)
    store.erase(T, "u:ann")
    assert store.erased_since(7).tags is None


def test_a_replica_that_did_not_ask_for_very_long_forgets_everybody(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (redis_profiles, sqlite_profiles):
        monkeypatch.setattr(module, "MAX_MARKS", 2)
    store = backend.open()
    for person in range(6):
        store.erase(T, f"u:{person}")
    newest = store.erased_since(0).version
    assert store.erased_since(0).tags is None
    assert store.erased_since(newest - 1).tags == (tag("person", T, "u:5"),)


def test_a_set_may_hold_an_eighth_more_than_its_bound_for_a_while_and_shows_none_of_it(backend: Backend) -> None:
    store = backend.open(max_events_per_person=40, max_seen_per_person=40, max_event_ids_per_person=40)
    for n in range(200):
        store.apply(T, [clicked("u:ann", f"e{n:03}", item=f"i{n:03}", ago=1_000 - n)], NOW)
        profile = read(store, "u:ann")
        newest = list(range(max(0, n - 39), n + 1))
        assert ids(profile) == [f"e{kept:03}" for kept in newest]
        assert set(profile.seen) == {f"i{kept:03}" for kept in newest}
        assert len(list(store.export(T, "u:ann"))) <= 3 * 45
    assert store.known(T, [clicked("u:ann", f"e{n:03}") for n in (100, 160, 199)], NOW) == [False, True, True]
