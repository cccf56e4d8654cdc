"""New items are encoded beside requests: nobody who asks waits for the encoder, and what was offered stays."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from weakref import ref

import numpy as np
import pytest
from numpy.typing import NDArray
from reference_store import ReferenceStore

from retrank.contract.vocab import Vocab
from retrank.serving import newcomers as module
from retrank.serving.changes import Changes
from retrank.serving.kept_fresh import IDLE_S, KEPT_S
from retrank.serving.new_items import Described
from retrank.serving.newcomers import Newcomers, NewItemCounts
from retrank.serving.overlay import Overlay
from retrank.serving.stores.protocol import ItemChange
from retrank.serving.stores.settings import StateSettings

EVERY_S = 0.5


class Encoder:
    """The vector of an item is its price twice; notes what is asked."""

    def __init__(self) -> None:
        self.asked = list[float]()
        self.before: Callable[[], None] = lambda: None

    def described(self, items: Sequence[Mapping[str, Any]]) -> Described:
        self.before()
        self.asked += [one["price"] for one in items]
        vectors = np.array([[one["price"]] * 2 for one in items], dtype=np.float32)
        return Described(vectors, vectors[:, 0] >= 0)


def _stand_ins(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.ones(len(vectors), dtype=np.int64)


class Shop:
    """A store, and what one process knows of it."""

    def __init__(self, limit: int = 100) -> None:
        self.now, self.encoder, self.store = 0.0, Encoder(), ReferenceStore(StateSettings())
        self.newcomers = Newcomers(self.encoder, Vocab(["i1", "i2"]), limit, _stand_ins)  # type: ignore[arg-type]
        self.overlay = Overlay(self.store, lambda: self.now, EVERY_S, self.newcomers.carry_over, self._prepare)

    def _prepare(self, changes: Changes) -> None:
        self.newcomers.prepare(changes)

    def put(self, tenant: str = "shop", **prices: float) -> None:
        changes = [ItemChange(item, 0, False, True, {"price": price}) for item, price in prices.items()]
        self.store.change_items(tenant, changes)

    def poll(self, seconds: float = EVERY_S) -> None:
        self.now += seconds
        self.overlay.poll()

    def offered(self, tenant: str = "shop") -> dict[str, tuple[float, Any]]:
        """Return what a request finds: of each new item what its vector says, and its price."""
        changes, fresh = self.overlay.look(tenant)
        assert fresh
        new = self.newcomers.of(changes)
        if new is None:
            return {}
        return {
            item: (float(vector[0]), one["price"])
            for item, vector, one in zip(new.ids, new.vectors, new.attributes, strict=True)
        }


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_the_first_request_is_answered_at_once_and_the_next_look_encodes(shop: Shop) -> None:
    shop.put(a=1.0, b=2.0)
    assert shop.offered() == {}
    assert shop.encoder.asked == []
    shop.poll()
    assert shop.offered() == {"a": (1.0, 1.0), "b": (2.0, 2.0)}


def test_after_an_hour_of_silence_nothing_is_in_memory_and_the_next_request_still_waits_for_nobody(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    shop.put(a=1.0, b=2.0, c=3.0)
    shop.offered()
    shop.poll()
    shop.poll()
    held = ref(shop.overlay.look("shop")[0])
    assert len(shop.offered()) == 3
    for seconds in (IDLE_S + 1, KEPT_S + 1):
        shop.poll(seconds)
    assert held() is None
    assert shop.newcomers.counts() == NewItemCounts()
    shop.encoder.asked.clear()
    assert shop.offered() == {}
    assert shop.encoder.asked == [], "not by the one who asks"
    shop.poll()
    assert set(shop.offered()) == {"b", "c"}
    shop.poll()
    assert set(shop.offered()) == {"a", "b", "c"}


def test_a_request_after_a_minute_of_silence_finds_what_was_offered_less_what_went(shop: Shop) -> None:
    shop.put(a=1.0, b=2.0)
    shop.offered()
    shop.poll()
    shop.poll(IDLE_S + 1)
    shop.put(c=3.0)
    shop.store.change_items("shop", [ItemChange("a", 0, True, True, {"price": 1.0})])
    shop.encoder.asked.clear()
    assert shop.offered() == {"b": (2.0, 2.0)}
    assert shop.encoder.asked == []
    shop.poll()
    assert shop.offered() == {"b": (2.0, 2.0), "c": (3.0, 3.0)}
    assert shop.encoder.asked == [3.0], "b was not encoded again"


def test_an_item_that_changes_stays_and_is_read_as_it_was_until_it_is_encoded_anew(shop: Shop) -> None:
    shop.put(a=1.0, b=2.0)
    shop.offered()
    shop.poll()
    shop.put(a=5.0)
    shop.overlay.read("shop")
    assert shop.offered() == {"a": (1.0, 5.0), "b": (2.0, 2.0)}
    assert shop.newcomers.counts() == NewItemCounts(offered=2)
    shop.poll()
    assert shop.offered() == {"a": (5.0, 5.0), "b": (2.0, 2.0)}
    shop.put(a=-1.0)
    shop.overlay.read("shop")
    assert "a" in shop.offered()
    shop.poll()
    assert (set(shop.offered()), shop.newcomers.counts()) == ({"b"}, NewItemCounts(offered=1, unreadable=1))


def test_what_a_state_does_not_get_encoded_in_time_the_next_one_does(shop: Shop) -> None:
    shop.put(a=1.0)
    shop.offered()
    shop.poll()
    shop.put(a=2.0)
    shop.overlay.read("shop")
    shop.put(b=3.0)
    shop.overlay.read("shop")
    assert shop.offered() == {"a": (1.0, 2.0)}
    shop.poll()
    assert shop.offered() == {"a": (2.0, 2.0), "b": (3.0, 3.0)}


def test_nobody_waits_while_another_thread_encodes(shop: Shop) -> None:
    begun, go_on = Event(), Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(60)

    shop.put(a=1.0)
    shop.put("another", x=1.0)
    shop.offered()
    shop.poll()
    shop.poll(IDLE_S + 1)
    shop.put(b=2.0)
    shop.offered("another")
    shop.encoder.before = wait
    with ThreadPoolExecutor(3) as threads:
        try:
            encodes = threads.submit(shop.poll)
            assert begun.wait(60)
            changes = threads.submit(shop.offered).result(30)  # a state that nobody has seen
            first = threads.submit(shop.offered, "a third").result(30)
        finally:
            go_on.set()
        encodes.result(60)
    assert (changes, first) == ({"a": (1.0, 1.0)}, {})
