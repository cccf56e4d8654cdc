"""Trends: counts of several replicas add up, fade, stay bounded and survive an outage of the store."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from retrank.contract.vocab import Vocab
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import Control, Document, StateStore, StoreUnavailable
from retrank.serving.stores.settings import StateSettings
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.trends import IDLE_S, KEPT_S, LIFETIMES_S, MAX_ITEMS, MAX_LISTS, Act, Trend, Trends

DAY_S = 86_400.0


class Clock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Flaky:
    """Control documents of a store that can be away."""

    def __init__(self, store: Control) -> None:
        self._store, self.away = store, False

    def document(self, name: str) -> Document:
        if self.away:
            raise StoreUnavailable("away")
        return self._store.document(name)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'state.sqlite'}")))
    yield opened
    opened.close()


class Rungs(Telemetry):
    """Remembers which fallbacks answered."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def fallback(self, dependency: str, rung: str) -> None:
        self.seen.append((dependency, rung))


def _replica(control: Control, clock: Clock, telemetry: Telemetry | None = None) -> Trends:
    return Trends(control, clock, clock=clock, every_s=1.0, telemetry=telemetry)


def _counts(trends: Trends, placement: str | None = None) -> dict[str, float]:
    return dict(trends.trend("shop", placement, "24h").counts)


def test_what_two_replicas_counted_adds_up_for_both_and_per_placement(store: StateStore) -> None:
    clock = Clock()
    one, other = _replica(store, clock), _replica(store, clock)
    one.count("shop", [Act("a", "home"), Act("b", None)])
    other.count("shop", [Act("a", "basket")] * 2)
    other.count("another shop", [Act("a", "home")] * 9)
    one.poll()
    other.poll()
    for trends in (one, other):
        assert _counts(trends) == {"a": 3.0, "b": 1.0}
        assert _counts(trends, "home") == {"a": 1.0}
        assert _counts(trends, "basket") == {"a": 2.0}
        assert _counts(trends, "elsewhere") == {}


def test_counts_fade_with_the_window_as_mean_lifetime(store: StateStore) -> None:
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act("old", None)] * 4)
    trends.poll()
    clock.now += DAY_S
    trends.count("shop", [Act("new", None)] * 2)
    trends.poll()
    assert _counts(trends) == pytest.approx({"new": 2.0, "old": 4.0 * math.exp(-1)})
    week = trends.trend("shop", None, "7d").counts
    assert dict(week) == pytest.approx({"new": 2.0, "old": 4.0 * math.exp(-DAY_S / LIFETIMES_S["7d"])})


def test_an_outage_loses_no_counts_and_what_was_known_still_answers(store: StateStore) -> None:
    clock, control = Clock(), Flaky(store)
    trends = _replica(control, clock)  # type: ignore[arg-type]  # all other methods are the store's
    trends.count("shop", [Act("a", None)])
    trends.poll()
    assert _counts(trends) == {"a": 1.0}
    control.away = True
    trends.count("shop", [Act("a", None), Act("b", None)])
    for _ in range(3):
        trends.poll()
    assert _counts(trends) == {"a": 1.0}
    control.away = False
    trends.poll()
    assert _counts(trends) == {"a": 2.0, "b": 1.0}


def test_lists_stay_bounded_whatever_is_posted(store: StateStore) -> None:
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act(f"item {row}", f"place-{row % 200}") for row in range(3 * MAX_ITEMS)])
    trends.count("shop", [Act("item 7", "no placement, or an attempt at one/../")])
    trends.merge()
    assert len(_counts(trends)) == MAX_ITEMS
    assert _counts(trends)["item 7"] == 2.0
    named = [place for place in range(200) if store.document(f"trends/shop/place-{place}").version]
    assert len(named) == MAX_LISTS - 1


def test_a_tenant_with_many_placements_takes_no_room_from_others_nor_from_what_counts_everywhere(
    store: StateStore,
) -> None:
    clock, control = Clock(), Flaky(store)
    trends = _replica(control, clock)  # type: ignore[arg-type]  # all other methods are the store's
    trends.count("greedy", [Act("x", f"place-{number}") for number in range(MAX_LISTS + 9)])
    trends.count("shop", [Act("a", "home")])
    control.away = True
    trends.merge()  # everything is put back
    trends.count("shop", [Act("a", "home")])
    control.away = False
    trends.merge()
    assert (_counts(trends), _counts(trends, "home")) == ({"a": 2.0}, {"a": 2.0})
    assert trends.trend("greedy", None, "24h").counts == {"x": MAX_LISTS + 9.0}


def _placements(store: StateStore, *names: str) -> list[str]:
    return [name for name in names if store.document(f"trends/shop/{name}").version]


def test_a_placement_without_acts_for_a_day_makes_room_for_a_new_one_and_no_other_does(store: StateStore) -> None:
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act("a", f"place-{number}") for number in range(MAX_LISTS - 1)])
    trends.merge()
    clock.now += IDLE_S / 2
    trends.count("shop", [Act("a", f"place-{number}") for number in range(1, MAX_LISTS - 1)] + [Act("b", "early")])
    trends.merge()
    assert _placements(store, "early", "late") == []
    clock.now += IDLE_S / 2
    trends.count("shop", [Act("b", "late"), Act("b", "later")])
    trends.merge()
    assert _placements(store, "early", "late", "later") == ["late"]
    assert _counts(trends)["b"] > 2.0


def test_documents_that_nobody_counts_into_any_more_go(store: StateStore) -> None:
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act("a", "home"), Act("a", "basket")])
    trends.merge()
    clock.now += KEPT_S / 2
    trends.count("shop", [Act("a", "home")])
    trends.merge()
    clock.now += KEPT_S / 2
    store.beat("replica", {}, 1.0, clock.now)
    assert _placements(store, "*", "home", "basket") == ["*", "home"]
    clock.now += KEPT_S
    store.beat("replica", {}, 1.0, clock.now)
    assert _placements(store, "*", "home", "basket") == []


def test_items_that_have_faded_leave_the_document(store: StateStore) -> None:
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act("old", None)])
    trends.merge()
    clock.now += 5 * DAY_S
    trends.count("shop", [Act("new", None)])
    trends.merge()
    value = store.document("trends/shop/*").value
    assert isinstance(value, dict)
    assert isinstance(windows := value["windows"], dict)
    assert {window: sorted(counts) for window, counts in windows.items() if isinstance(counts, dict)} == {
        "24h": ["new"],
        "7d": ["new", "old"],
    }


def test_a_document_of_another_version_is_started_anew(store: StateStore) -> None:
    assert store.write("trends/shop/*", {"windows": "of a later version"}, 0)
    clock = Clock()
    trends = _replica(store, clock)
    trends.count("shop", [Act("a", None)])
    trends.poll()
    assert _counts(trends) == {"a": 1.0}


def test_rows_of_a_bundle_are_shares_of_the_strongest_item_it_knows() -> None:
    found = Trend({"y": 2.0, "stranger": 9.0, "x": 4.0, "z": 4.0}).rows(Vocab(["z", "x", "y"]))
    assert found.best_first().tolist() == [1, 2, 3]
    assert found.of(found.rows[::-1]).tolist() == [0.5, 1.0, 1.0]
    nothing = Trend({"stranger": 1.0}).rows(Vocab(["x"]))
    assert nothing.of(nothing.rows).tolist() == []


def test_acts_for_which_there_is_no_room_are_told_of(store: StateStore, caplog: pytest.LogCaptureFixture) -> None:
    rungs = Rungs()
    trends = _replica(store, Clock(), rungs)
    long_ids = [f"{number:03d}" + "\u20ac" * 1_300 for number in range(MAX_ITEMS)]
    trends.count("shop", [Act(item, "home") for item in long_ids])
    trends.poll()
    assert rungs.seen == [("trends", "store_full")] * 2  # everywhere, and the placement
    assert "not counted" in caplog.text
    assert _counts(trends) == {}
