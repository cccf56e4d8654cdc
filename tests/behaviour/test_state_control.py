"""Item changes, documents and heartbeats keep their promises in every store."""

import time

import pytest
from state_backends import Backend

from retrank.serving.stores.protocol import MAX_DOCUMENT_CHARS, Document, ItemChange, StateStore, StoreFull

NOW = 1_800_000_000.0
T = "shop"


def gone(item_id: str) -> ItemChange:
    return ItemChange(item_id, 0, deleted=True, available=False, attributes=None)


def renamed(item_id: str, title: str) -> ItemChange:
    return ItemChange(item_id, 0, deleted=False, available=True, attributes={"title": title, "n": 1.5, "tags": []})


@pytest.fixture
def store(backend: Backend) -> StateStore:
    return backend.open()


def test_every_change_of_an_item_has_a_version(store: StateStore) -> None:
    assert store.item_changes(T, 0) == []
    assert store.change_items(T, [gone("a"), renamed("b", "Bee")]) == 2
    assert store.change_items(T, [renamed("a", "Ay")]) == 3
    assert store.item_changes(T, 0) == [renamed("b", "Bee")._replace(version=2), renamed("a", "Ay")._replace(version=3)]
    assert store.item_changes(T, 2) == [renamed("a", "Ay")._replace(version=3)]
    assert store.item_changes(T, 3) == []


def test_attributes_stay_until_others_are_said(store: StateStore) -> None:
    store.change_items(T, [renamed("a", "Ay")])
    store.change_items(T, [gone("a")])
    [change] = store.item_changes(T, 0)
    assert change == gone("a")._replace(version=2, attributes=renamed("a", "Ay").attributes)
    store.change_items(T, [gone("a")._replace(attributes={})])
    assert store.item_changes(T, 0)[0].attributes == {}


def test_the_catalogues_of_tenants_never_mix(store: StateStore) -> None:
    store.change_items("one", [gone("a"), gone("b")])
    assert store.change_items("two", [gone("c")]) == 1
    assert [change.item_id for change in store.item_changes("two", 0)] == ["c"]


def test_more_changed_items_than_allowed_are_refused_as_a_whole(backend: Backend) -> None:
    store = backend.open(max_changed_items=2)
    store.change_items(T, [gone("a")])
    with pytest.raises(StoreFull, match="seal a bundle"):
        store.change_items(T, [gone("b"), gone("c")])
    assert [change.item_id for change in store.item_changes(T, 0)] == ["a"]
    assert store.change_items(T, [gone("a"), gone("b")]) == 3


def test_changes_that_a_bundle_holds_can_be_dropped_and_versions_go_on(store: StateStore) -> None:
    store.change_items(T, [gone("a"), gone("b"), gone("c")])
    assert store.forget_changes(T, 2) == 2
    assert [change.item_id for change in store.item_changes(T, 0)] == ["c"]
    assert store.change_items(T, [gone("a")]) == 4
    assert store.forget_changes("other", 9) == 0


def test_up_to_which_version_changes_were_dropped_is_known_to_all(backend: Backend) -> None:
    one, two = backend.open(), backend.open()
    one.change_items(T, [gone("a"), gone("b"), gone("c")])
    assert two.forgotten_changes(T) == 0
    one.forget_changes(T, 2)
    one.forget_changes(T, 1)
    assert (two.forgotten_changes(T), two.forgotten_changes("other")) == (2, 0)
    one.forget_changes(T, 99)
    assert two.forgotten_changes(T) == 3  # the newest there was; what comes later is not forgotten
    one.change_items(T, [gone("d")])
    assert [change.item_id for change in two.item_changes(T, two.forgotten_changes(T))] == ["d"]


def test_a_document_is_written_by_whoever_read_its_newest_version(backend: Backend) -> None:
    one, two = backend.open(), backend.open()
    assert one.document("bundles") == Document(0, None)
    assert one.write("bundles", {"active": "b1", "canary": None}, expected=0)
    assert not two.write("bundles", {"active": "b2"}, expected=0)
    assert two.document("bundles") == Document(1, {"active": "b1", "canary": None})
    assert two.write("bundles", [1, "é", 2.5], expected=1)
    assert not one.write("bundles", None, expected=1)
    assert not one.write("bundles", None, expected=7)
    assert one.document("bundles") == Document(2, [1, "é", 2.5])
    assert one.document("other") == Document(0, None)


def test_a_document_with_an_end_goes_with_the_first_beat_after_it(backend: Backend) -> None:
    store, other, now = backend.open(), backend.open(), time.time()
    for name, until in (("over", now - 60.0), ("later", now + 600.0), ("for good", None)):
        assert store.write(name, {"n": 1}, 0, until=until)
    other.beat("replica", {}, 1.0, now)
    assert [other.document(name).version for name in ("over", "later", "for good")] == [0, 1, 1]
    assert store.write("over", {"n": 2}, 0)
    assert store.write("later", {"n": 2}, 1, until=now - 60.0)
    assert store.write("for good", {"n": 2}, 1)
    store.beat("replica", {}, 1.0, now)
    assert [other.document(name).version for name in ("over", "later", "for good")] == [1, 0, 2]


def test_a_document_is_bounded(store: StateStore) -> None:
    with pytest.raises(StoreFull):
        store.write("d", "x" * MAX_DOCUMENT_CHARS, expected=0)
    assert store.document("d") == Document(0, None)


def test_a_replica_is_alive_while_it_beats(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    store.beat("r1", {"bundle": "b1"}, 5.0, NOW)
    store.beat("r2", {"bundle": "b1"}, 5.0, NOW + 3)
    assert other.beats(NOW + 4.9) == {"r1": {"bundle": "b1"}, "r2": {"bundle": "b1"}}
    assert other.beats(NOW + 5) == {"r2": {"bundle": "b1"}}
    store.beat("r1", {"bundle": "b2"}, 5.0, NOW + 6)
    assert other.beats(NOW + 7) == {"r1": {"bundle": "b2"}, "r2": {"bundle": "b1"}}
    assert other.beats(NOW + 99) == {}


def test_pinging_a_store_that_answers_is_quiet(store: StateStore) -> None:
    store.ping()
