"""A view of item changes is whole, in rows, and keeps what it has learnt."""

import threading

import numpy as np
import pytest
from reference_store import ReferenceStore
from state_backends import Backend

from retrank.contract.vocab import Vocab
from retrank.serving.catalogue_overlay import CatalogueSnapshot, CatalogueView
from retrank.serving.stores.protocol import CatalogueOverlay, ItemChange, StoreUnavailable
from retrank.serving.stores.settings import StateSettings

ITEMS = Vocab(["a", "b", "c"])


def change(item_id: str, *, deleted: bool = False, available: bool = True, title: str | None = None) -> ItemChange:
    return ItemChange(item_id, 0, deleted, available, None if title is None else {"title": title})


@pytest.fixture
def store() -> ReferenceStore:
    return ReferenceStore(StateSettings())


def test_nothing_is_hidden_but_padding_before_anything_changed(store: ReferenceStore) -> None:
    view = CatalogueView(store, "shop", ITEMS)
    assert not view.refresh()
    assert view.snapshot.hidden.tolist() == [True, False, False, False]
    assert (view.snapshot.version, view.snapshot.num_hidden) == (0, 0)


def test_deleted_and_unavailable_items_are_hidden_by_row_until_they_are_back(store: ReferenceStore) -> None:
    view = CatalogueView(store, "shop", ITEMS)
    store.change_items("shop", [change("a", deleted=True), change("c", available=False)])
    store.change_items("other", [change("b", deleted=True)])
    assert view.snapshot.num_hidden == 0
    assert view.refresh()
    assert view.snapshot.hidden.tolist() == [True, True, False, True]
    assert (view.snapshot.version, view.snapshot.num_hidden) == (2, 2)
    store.change_items("shop", [change("c")])
    assert view.refresh()
    assert view.snapshot.hidden.tolist() == [True, True, False, False]
    assert not view.refresh()


def test_attributes_are_replaced_by_row(store: ReferenceStore) -> None:
    view = CatalogueView(store, "shop", ITEMS)
    store.change_items("shop", [change("b", title="Bee"), change("a", title="Ay")])
    view.refresh()
    assert view.snapshot.attributes == {2: {"title": "Bee"}, 1: {"title": "Ay"}}
    store.change_items("shop", [change("b", available=False), change("a")._replace(attributes={})])
    view.refresh()
    assert view.snapshot.attributes == {2: {"title": "Bee"}}


def test_items_the_bundle_does_not_hold_are_listed(store: ReferenceStore) -> None:
    view = CatalogueView(store, "shop", ITEMS)
    store.change_items("shop", [change("new", title="New"), change("a")])
    view.refresh()
    assert view.snapshot.unknown == {"new": change("new", title="New")._replace(version=1)}
    assert view.snapshot.num_hidden == 0


def test_a_snapshot_in_use_never_changes(store: ReferenceStore) -> None:
    view = CatalogueView(store, "shop", ITEMS)
    store.change_items("shop", [change("a", title="Ay"), change("new")])
    view.refresh()
    used = view.snapshot
    store.change_items("shop", [change("a", deleted=True), change("b", title="Bee"), change("newer")])
    view.refresh()
    assert used.hidden.tolist() == [True, False, False, False]
    assert (set(used.attributes), set(used.unknown), used.version) == ({1}, {"new"}, 2)
    with pytest.raises(ValueError, match="read-only"):
        used.hidden[1] = True
    with pytest.raises(TypeError):
        used.attributes[1] = {}  # type: ignore[index]  # what must fail


def test_what_was_learnt_stays_when_the_store_forgets_or_goes_away(backend: Backend) -> None:
    store = backend.open()
    view = CatalogueView(store, "shop", ITEMS)
    store.change_items("shop", [change("a", deleted=True)])
    view.refresh()
    store.forget_changes("shop", 1)
    assert not view.refresh()
    assert view.snapshot.hidden[1]
    assert not CatalogueView(store, "shop", ITEMS).refresh()


def test_an_unreachable_store_leaves_the_last_snapshot() -> None:
    class Away(ReferenceStore):
        def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
            raise StoreUnavailable("away")

    view = CatalogueView(Away(StateSettings()), "shop", ITEMS)
    before = view.snapshot
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            view.refresh()
    assert view.snapshot is before


def test_a_second_refresh_at_the_same_time_does_not_wait(store: ReferenceStore) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(ReferenceStore):
        def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
            entered.set()
            assert leave.wait(30)
            return super().item_changes(tenant, after)

    slow: CatalogueOverlay = Slow(StateSettings())
    slow.change_items("shop", [change("a", deleted=True)])
    view = CatalogueView(slow, "shop", ITEMS)
    thread = threading.Thread(target=view.refresh)
    thread.start()
    assert entered.wait(30)
    assert not view.refresh()
    assert view.snapshot.version == 0
    leave.set()
    thread.join(30)
    assert view.snapshot.version == 1


def test_applying_changes_in_parts_gives_the_same_snapshot_as_at_once() -> None:
    rng = np.random.default_rng(7)
    changes = [
        change(f"{'abcxy'[rng.integers(5)]}", deleted=bool(rng.integers(2)), title="t")._replace(version=n + 1)
        for n in range(40)
    ]
    once = CatalogueSnapshot.untouched(3).after(changes, ITEMS)
    parts = CatalogueSnapshot.untouched(3)
    for start in range(0, 40, 7):
        parts = parts.after(changes[start : start + 7], ITEMS)
    assert np.array_equal(once.hidden, parts.hidden)
    assert (once.version, once.attributes, once.unknown) == (parts.version, parts.attributes, parts.unknown)
