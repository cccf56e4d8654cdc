"""The view of the catalogue follows the store, also when the store lost or forgot changes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from retrank.serving.overlay import Overlay
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import ItemChange, StateStore
from retrank.serving.stores.settings import StateSettings

Opener = Callable[[str], StateStore]


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    opened: list[StateStore] = []

    def open_one(name: str) -> StateStore:
        opened.append(open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / name}"))))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


class Failover:
    """Reads one store, then another."""

    def __init__(self, store: StateStore) -> None:
        self.store, self.afters = store, list[int]()

    def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
        self.afters.append(after)
        return self.store.item_changes(tenant, after)

    def change_items(self, tenant: str, changes: list[ItemChange]) -> int:
        return self.store.change_items(tenant, changes)

    def forget_changes(self, tenant: str, up_to: int) -> int:
        return self.store.forget_changes(tenant, up_to)

    def forgotten_changes(self, tenant: str) -> int:
        return self.store.forgotten_changes(tenant)


def _gone(*names: str) -> list[ItemChange]:
    return [ItemChange(name, 0, True, False, None) for name in names]


def _overlay(store: Failover) -> Overlay:
    return Overlay(store, lambda: 0.0, 1.0)  # type: ignore[arg-type]  # sequences are lists here


def test_only_what_is_new_is_read_while_the_store_goes_on(opener: Opener) -> None:
    store = Failover(opener("a"))
    overlay = _overlay(store)
    store.change_items("shop", _gone("i1", "i2", "i3"))
    first = overlay.read("shop")
    assert overlay.read("shop") is first
    store.change_items("shop", _gone("i3", "i4"))
    assert set(overlay.read("shop").items) == {"i1", "i2", "i3", "i4"}
    assert store.afters == [0, 2, 2]


@pytest.mark.parametrize("kept", [["i1"], [], ["i1", "i9", "i3"], ["i1", "i8", "i9", "i7"]])
def test_after_a_failover_that_lost_changes_the_store_is_read_anew(opener: Opener, kept: list[str]) -> None:
    store = Failover(opener("a"))
    overlay = _overlay(store)
    store.change_items("shop", _gone("i1", "i2", "i3"))
    overlay.read("shop")
    store.store = opener("b")
    for name in kept:
        store.change_items("shop", [ItemChange(name, 0, False, True, {"price": 1})])
    found = overlay.read("shop")
    assert (set(found.items), found.version) == (set(kept), len(kept))
    store.change_items("shop", _gone("i5"))
    assert set(overlay.read("shop").items) == {*kept, "i5"}


def test_changes_that_were_forgotten_because_a_bundle_holds_them_go_from_here_too(opener: Opener) -> None:
    store = Failover(opener("a"))
    overlay = _overlay(store)
    version = store.change_items("shop", _gone("i1", "i2"))
    overlay.read("shop")
    store.forget_changes("shop", version)
    assert overlay.read("shop").items == {}
    store.change_items("shop", _gone("i6"))
    assert set(overlay.read("shop").items) == {"i6"}


def test_forgotten_changes_go_from_here_while_later_ones_stay(opener: Opener) -> None:
    store = Failover(opener("a"))
    overlay = _overlay(store)
    store.change_items("shop", _gone("i1", "i2", "i3"))
    overlay.read("shop")
    store.change_items("shop", _gone("i2"))
    store.forget_changes("shop", 2)
    found = overlay.read("shop")
    assert {item: change.version for item, change in found.items.items()} == {"i3": 3, "i2": 4}
    assert overlay.read("shop") is found
    store.change_items("shop", _gone("i4"))
    assert set(overlay.read("shop").items) == {"i3", "i2", "i4"}


def test_a_view_that_begins_after_changes_were_forgotten_holds_the_others_only(opener: Opener) -> None:
    store = Failover(opener("a"))
    store.change_items("shop", _gone("i1", "i2"))
    store.forget_changes("shop", 1)
    overlay = _overlay(store)
    assert set(overlay.read("shop").items) == {"i2"}
    assert overlay.read("shop") is overlay.read("shop")


def test_a_state_that_follows_forgotten_changes_leads_to_the_one_before(opener: Opener) -> None:
    store = Failover(opener("a"))
    overlay = _overlay(store)
    store.change_items("shop", _gone("i1", "i2"))
    first = overlay.read("shop")
    assert first.akin is None
    store.forget_changes("shop", 1)
    store.change_items("shop", _gone("i3"))
    found = overlay.read("shop")
    assert found.before is None
    assert found.akin is not None
    assert found.akin() is first
    store.change_items("shop", _gone("i4"))
    assert overlay.read("shop").akin is None
