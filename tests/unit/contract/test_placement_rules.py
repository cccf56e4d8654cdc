"""What operators may say about placements and rules, and what is refused before anybody follows it."""

from typing import Any

import pytest
from pydantic import ValidationError

from retrank.contract.placement_rules import MAX_RULE_ITEMS, PlacementDefaults, Rule

PIN = {"id": "r", "action": "pin", "items": ["i1"], "place": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"items": None}, "items or filter"),
        ({"filter": {"exists": {"attribute": "price"}}}, "items or filter"),
        ({"items": None, "filter": {"exists": {"attribute": "price"}}}, "names its items"),
        ({"place": None}, "place goes with"),
        ({"action": "bury"}, "place goes with"),
        ({"strength": 1.0}, "strength goes with"),
        ({"action": "boost", "place": None}, "strength goes with"),
        ({"items": ["i"] * (MAX_RULE_ITEMS + 1)}, "at most 200"),
        ({"starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, "is not after"),
        ({"starts_at": "2030-01-02T00:00:00"}, "timezone"),
        ({"id": "a b"}, "pattern"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rule.model_validate(PIN | changed, strict=False)


def test_a_rule_survives_the_way_through_the_store() -> None:
    rule = Rule.model_validate_json(
        '{"id": "r", "action": "block", "filter": {"not": {"in": {"attribute": "a", "values": [1]}}},'
        ' "placement": "home", "starts_at": "2030-01-02T00:00:00+02:00"}'
    )
    again = Rule.model_validate_json(rule.model_dump_json(by_alias=True, exclude_defaults=True))
    assert again == rule


def test_the_strength_of_exploration_is_bounded_by_a_share() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        PlacementDefaults(name="home", max_explore=1.5)
