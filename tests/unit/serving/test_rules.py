"""Rules of operators on slates: pinned, boosted, buried, blocked; what may not be shown stays away all the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.api import RecommendRequest, Session, SimilarRequest, SlateItem
from retrank.contract.filters import satisfies
from retrank.contract.placement_rules import PlacementDefaults, Rule
from retrank.contract.slate_options import Diversity, Explore
from retrank.serving.changes import NO_CHANGES
from retrank.serving.item_columns import Column, ItemColumns
from retrank.serving.live_rules import House, LiveRule, RuleRows, Rules
from retrank.serving.recommender import Recommender
from retrank.serving.row_changes import UNCHANGED, RowChanges
from retrank.serving.stores.protocol import ItemChange
from retrank.serving.surroundings import Surroundings

CHEAP = {"range": {"attribute": "price", "lt": 5.0}}  # i1..i13


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def ranked(ranked_bundle: Path) -> Recommender:
    return Recommender.open(ranked_bundle)


def _rules(*said: dict[str, Any]) -> Rules:
    return tuple(LiveRule.of(Rule.model_validate({"id": f"r{at}"} | one)) for at, one in enumerate(said))


def _pin(place: int, *items: str) -> dict[str, Any]:
    return {"action": "pin", "items": list(items), "place": place}


def _slate(recommender: Recommender, *said: dict[str, Any], **asked: Any) -> list[SlateItem]:
    request = RecommendRequest.model_validate({"user_id": "u1", "k": 6} | asked)
    return recommender.recommend(request, Surroundings(rules=_rules(*said), seed=1)).items


def _ids(items: list[SlateItem]) -> list[str]:
    return [item.item_id for item in items]


@pytest.mark.parametrize("world", ["recommender", "ranked"])
def test_pinned_items_stand_at_their_places_and_the_rest_keeps_its_order(
    world: str, request: pytest.FixtureRequest
) -> None:
    opened: Recommender = request.getfixturevalue(world)
    plain = _ids(_slate(opened, k=20, exclude_seen=False))
    pinned = [f"i{row}" for row in range(1, 51) if f"i{row}" not in plain[:6]][:3]
    items = _slate(opened, _pin(2, *pinned[:2]), _pin(5, pinned[2]), exclude_seen=False)
    rest = [item for item in plain if item not in pinned][:3]
    assert _ids(items) == [rest[0], pinned[0], pinned[1], rest[1], pinned[2], rest[2]]
    assert ["pinned" in item.sources for item in items] == [False, True, True, False, True, False]
    assert [item.rank for item in items] == [1, 2, 3, 4, 5, 6]
    assert sorted((item.score for item in items), reverse=True) == [item.score for item in items]


def test_a_pin_of_what_stands_there_anyway_changes_nothing_but_its_sources(recommender: Recommender) -> None:
    plain = _slate(recommender)
    items = _slate(recommender, _pin(1, plain[0].item_id))
    assert _ids(items) == _ids(plain)
    assert items[0].sources == [*plain[0].sources, "pinned"]


@pytest.mark.parametrize(
    ("asked", "hidden"),
    [
        ({"exclude_items": ["i40"]}, ()),
        ({"filter": {"not": {"eq": {"attribute": "title", "value": "Thing number 40"}}}}, ()),
        ({"session": Session(recent=["i40"])}, ()),
        ({}, ("i40",)),
    ],
    ids=["excluded", "filtered", "seen", "withdrawn"],
)
def test_what_may_not_be_shown_stays_away_and_the_next_pin_moves_up(
    recommender: Recommender, asked: dict[str, Any], hidden: tuple[str, ...]
) -> None:
    changes = NO_CHANGES.with_more([ItemChange(item, 1, True, False, None) for item in hidden])
    around = Surroundings(rules=_rules(_pin(1, "i40", "i41")), changes=changes)
    request = RecommendRequest.model_validate({"k": 5, **asked})
    items = recommender.recommend(request, around).items
    assert _ids(items)[0] == "i41"
    assert "i40" not in _ids(items)
    assert len(items) == 5


def test_pins_beyond_the_slate_and_unknown_items_are_left_out(recommender: Recommender) -> None:
    plain = _slate(recommender, exclude_seen=False)
    assert _ids(_slate(recommender, _pin(7, plain[5].item_id), _pin(1, "unknown"), exclude_seen=False)) == _ids(plain)


@pytest.mark.parametrize("user", [{}, {"user_id": "u1"}], ids=["nobody", "somebody"])
@pytest.mark.parametrize("place", [4, 6, 7])
def test_pins_without_a_place_fill_no_other(recommender: Recommender, user: dict[str, Any], place: int) -> None:
    asked = {"user_id": None, "exclude_seen": False, **user}
    plain = _ids(_slate(recommender, **asked))
    pinned = [f"i{row}" for row in range(50, 0, -1) if f"i{row}" not in plain][:9]
    items = _slate(recommender, _pin(place, *pinned), **asked)
    held = max(7 - place, 0)
    assert _ids(items) == [*plain[: 6 - held], *pinned[:held]]
    assert ["pinned" in item.sources for item in items] == [False] * (6 - held) + [True] * held


def test_a_slate_of_pins_alone_is_a_slate(recommender: Recommender) -> None:
    items = _slate(recommender, _pin(1, "i1", "i2", "i3"), k=2, exclude_seen=False)
    assert _ids(items) == ["i1", "i2"]


def test_two_rules_for_one_place_stand_in_the_order_of_the_rules(recommender: Recommender) -> None:
    items = _slate(recommender, _pin(1, "i1"), _pin(1, "i2"), exclude_seen=False)
    assert _ids(items)[:2] == ["i1", "i2"]


def test_blocked_items_never_appear_and_the_slate_is_full(recommender: Recommender) -> None:
    plain = _ids(_slate(recommender))
    items = _slate(recommender, {"action": "block", "items": plain[:3]}, {"action": "block", "filter": CHEAP}, k=20)
    assert len(items) == 20
    assert not {*plain[:3], *(f"i{row}" for row in range(1, 14))} & {*_ids(items)}


def test_a_block_joins_the_filter_of_the_request(recommender: Recommender) -> None:
    wanted = {"range": {"attribute": "price", "lt": 6.0}}
    items = _slate(recommender, {"action": "block", "filter": CHEAP}, k=20, filter=wanted, exclude_seen=False)
    assert {*_ids(items)} == {"i14", "i15", "i16", "i17"}


def test_a_filter_is_compiled_once_per_rule_and_state_of_the_catalogue(recommender: Recommender) -> None:
    columns = recommender.runtime.attributes.columns
    asked: list[str] = []

    class Counting(ItemColumns):
        def __init__(self) -> None:
            """Ask the columns of the bundle."""

        def column(self, name: str) -> Column | None:
            asked.append(name)
            return columns.column(name)

    items = recommender.runtime.items
    rules, rows = RuleRows(items, Counting()), np.array([1, 14], dtype=np.int64)
    rule, again = _rules({"action": "block", "filter": CHEAP}, {"action": "block", "filter": CHEAP})
    for _ in range(3):
        assert rules.test(rule, UNCHANGED)(rows).tolist() == [True, False]
    assert asked == ["price"]
    dearer = RowChanges().later(
        {}, [ItemChange("i1", 1, deleted=False, available=True, attributes={"price": 99.0})], items
    )
    for _ in range(3):
        assert rules.test(rule, dearer)(rows).tolist() == [False, False]
    assert asked == ["price"] * 2
    rules.test(again, dearer)  # a rule that is put again is another one
    assert asked == ["price"] * 3


def test_a_block_beats_a_pin(recommender: Recommender) -> None:
    items = _slate(recommender, _pin(1, "i1"), {"action": "block", "items": ["i1"]}, exclude_seen=False)
    assert "i1" not in _ids(items)


def test_a_boost_moves_up_and_a_burial_comes_last(recommender: Recommender) -> None:
    plain = _ids(_slate(recommender, k=20))
    boosted = _slate(recommender, {"action": "boost", "items": [plain[15]], "strength": 10.0}, k=20)
    assert _ids(boosted) == [plain[15], *plain[:15], *plain[16:]]
    assert "boosted" in boosted[0].sources
    buried = _slate(recommender, {"action": "bury", "items": plain[:2]}, k=18)
    assert _ids(buried) == plain[2:20]
    everything = _slate(recommender, {"action": "bury", "items": plain[:2]}, k=50, exclude_seen=False)
    assert [item.item_id for item in everything if "buried" in item.sources] == _ids(everything)[-2:]


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.integers(1, 8), min_size=0, max_size=3),
    policy=st.sampled_from(["none", "epsilon", "softmax"]),
    mode=st.sampled_from(["none", "mmr"]),
    k=st.integers(1, 8),
    seed=st.integers(0, 5),
)
def test_whatever_is_pinned_a_slate_is_full_distinct_and_states_its_chances(
    recommender: Recommender, places: list[int], policy: str, mode: str, k: int, seed: int
) -> None:
    explore = Explore.model_validate({"policy": policy, "strength": 0.5, "seed": seed})
    said = [_pin(place, f"i{30 + at}") for at, place in enumerate(places)]
    request = RecommendRequest(
        user_id="u1", k=k, explore=explore, diversity=Diversity.model_validate({"mode": mode}), exclude_seen=False
    )
    slate = recommender.recommend(request, Surroundings(rules=_rules(*said), seed=seed))
    assert len(slate.items) == k == len({*_ids(slate.items)})
    assert slate.degraded.reasons == []
    for item in slate.items:
        assert 0 < item.propensity <= 1
        if "pinned" in item.sources or policy == "none":
            assert item.propensity == 1.0


def test_propensities_around_a_pin_are_how_often_it_happens(recommender: Recommender) -> None:
    """With a pin on top, the second place is drawn among the rest with the stated chance."""
    explore = Explore(policy="epsilon", strength=0.5)
    request = RecommendRequest(user_id="u1", k=2, explore=explore)
    rules = _rules(_pin(1, "i40"))
    drawn = [recommender.recommend(request, Surroundings(rules=rules, seed=seed)).items for seed in range(600)]
    assert {items[0].item_id for items in drawn} == {"i40"}
    stated = {items[1].item_id: items[1].propensity for items in drawn}
    best = max(stated, key=lambda item: stated[item])
    seen = sum(items[1].item_id == best for items in drawn) / len(drawn)
    assert abs(seen - stated[best]) < 4 * (stated[best] * (1 - stated[best]) / len(drawn)) ** 0.5


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(["none", "epsilon", "softmax"]),
    mode=st.sampled_from(["none", "mmr", "cap"]),
    strength=st.sampled_from([0.1, 0.9]),
    boost=st.sampled_from([0.01, 10.0]),
    seed=st.integers(0, 20),
)
def test_what_is_buried_comes_after_everything_else_whatever_is_varied_or_left_to_chance(
    recommender: Recommender, policy: str, mode: str, strength: float, boost: float, seed: int
) -> None:
    diversity = {"mode": mode, "strength": strength} | ({"caps": {"title": 1}} if mode == "cap" else {})
    asked = {
        "explore": {"policy": policy, "strength": strength},
        "diversity": diversity,
        "k": 50,
        "exclude_seen": False,
    }
    best = _ids(_slate(recommender, k=10, exclude_seen=False))
    said = ({"action": "bury", "items": best[:8]}, {"action": "boost", "items": best[4:6], "strength": boost})
    request = RecommendRequest.model_validate({"user_id": "u1"} | asked)
    items = recommender.recommend(request, Surroundings(rules=_rules(*said), seed=seed)).items
    assert len(items) == 50
    assert {*_ids(items)[-8:]} == {*best[:8]}
    assert ["buried" in item.sources for item in items] == [False] * 42 + [True] * 8


@pytest.mark.parametrize("mode", ["none", "mmr"])
@pytest.mark.parametrize("moved", [{"action": "bury"}, {"action": "boost", "strength": 4.0}], ids=["bury", "boost"])
def test_a_rule_about_others_changes_nothing_in_how_the_rest_is_drawn(
    recommender: Recommender, moved: dict[str, Any], mode: str
) -> None:
    """By odds: what is drawn first is as likely, in proportion to the best, as without the rule."""
    explore, diversity = Explore(policy="softmax", strength=0.7), Diversity.model_validate({"mode": mode})
    request = RecommendRequest(user_id="u1", k=1, explore=explore, diversity=diversity, exclude_seen=False)
    scored = _ids(_slate(recommender, k=50, exclude_seen=False))

    def chances(rules: Rules) -> dict[str, float]:
        drawn = [recommender.recommend(request, Surroundings(rules=rules, seed=seed)).items[0] for seed in range(300)]
        return {item.item_id: item.propensity for item in drawn}

    plain, ruled = chances(()), chances(_rules(moved | {"items": scored[-1:]}))
    both = sorted(({*plain} & {*ruled}) - {*scored[-1:]})
    assert len(both) >= 3
    odds = [(plain[item] / plain[both[0]], ruled[item] / ruled[both[0]]) for item in both]
    assert [now for _, now in odds] == pytest.approx([before for before, _ in odds], rel=1e-4)


def test_rules_hold_for_similar_and_popular_items_too(recommender: Recommender) -> None:
    around = Surroundings(rules=_rules(_pin(1, "i9"), {"action": "block", "items": ["i10"]}))
    alike = recommender.similar(SimilarRequest(item_id="i5", k=50), around).items
    popular = recommender.popular(50, around=around).items
    for items in (alike, popular):
        assert _ids(items)[0] == "i9"
        assert "i10" not in _ids(items)
    assert "i5" not in _ids(alike)


@pytest.mark.parametrize(
    ("rule", "placement", "now", "holds"),
    [
        ({}, None, 0.0, True),
        ({}, "home", 0.0, True),
        ({"placement": "home"}, "home", 0.0, True),
        ({"placement": "home"}, "cart", 0.0, False),
        ({"placement": "home"}, None, 0.0, False),
        ({"starts_at": "1970-01-01T00:00:10Z"}, None, 9.9, False),
        ({"starts_at": "1970-01-01T00:00:10Z"}, None, 10.0, True),
        ({"ends_at": "1970-01-01T00:00:10Z"}, None, 9.9, True),
        ({"ends_at": "1970-01-01T00:00:10Z"}, None, 10.0, False),
    ],
)
def test_a_rule_holds_at_its_placement_and_in_its_time(
    rule: dict[str, Any], placement: str | None, now: float, holds: bool
) -> None:
    said = Rule.model_validate({"id": "r", "action": "block", "items": ["i1"]} | rule, strict=False)
    house = House(rules=(LiveRule.of(said),))
    assert bool(house.rules_at(placement, now)) is holds


@pytest.mark.parametrize(
    ("asked", "k", "strength"),
    [
        ({}, 3, 0.2),
        ({"k": 10}, 10, 0.2),
        ({"explore": {"policy": "softmax", "strength": 0.9}}, 3, 0.3),
        ({"explore": {"policy": "softmax", "strength": 0.1}}, 3, 0.1),
        ({"explore": None}, 3, None),
        ({"filter": None, "k": 1}, 1, 0.2),
    ],
)
def test_a_request_inherits_what_it_does_not_say_and_exploration_keeps_to_its_bound(
    asked: dict[str, Any], k: int, strength: float | None
) -> None:
    said = {"name": "home", "k": 3, "filter": CHEAP, "explore": {"policy": "epsilon", "strength": 0.2}}
    house = House({"home": PlacementDefaults.model_validate(said | {"max_explore": 0.3})})
    request = house.completed(RecommendRequest.model_validate({"placement": "home", **asked}))
    assert request.k == k
    assert (None if request.explore is None else request.explore.strength) == strength
    assert (request.filter is None) == ("filter" in asked)
    elsewhere = RecommendRequest.model_validate({"placement": "cart", **asked})
    assert house.completed(elsewhere) is elsewhere


def test_the_rows_a_rule_filter_means_are_those_that_satisfy_it(recommender: Recommender) -> None:
    rule = _rules({"action": "boost", "filter": CHEAP, "strength": 0.01})
    items = recommender.recommend(RecommendRequest(k=50, exclude_seen=False), Surroundings(rules=rule)).items
    for item in items:
        assert rule[0].said.filter is not None
        assert ("boosted" in item.sources) == satisfies(item.attributes, rule[0].said.filter)
