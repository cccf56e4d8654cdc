"""Requests: what is accepted, what is refused, and what is assumed when nothing is said."""

from typing import Any

import pytest
from pydantic import ValidationError

from retrank.contract.api import MAX_EXCLUDED, MAX_ID_LENGTH, MAX_K, MAX_RECENT, RecommendRequest, SimilarRequest


def test_an_empty_request_asks_for_ten_unseen_items_with_reasons() -> None:
    request = RecommendRequest.model_validate_json("{}")
    assert (request.user_id, request.session.recent, request.k) == (None, [], 10)
    assert request.exclude_seen
    assert request.explain


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "17850", "k": 1},
        {"session": {"recent": ["85123A", "日本"]}, "k": MAX_K},
        {"session": {"recent": ["x"] * MAX_RECENT}},
        {"exclude_items": ["x"] * MAX_EXCLUDED, "exclude_seen": False},
        {"request_id": "r" * MAX_ID_LENGTH},
    ],
)
def test_requests_within_the_limits_are_accepted(body: dict[str, Any]) -> None:
    assert RecommendRequest.model_validate(body).model_dump(exclude_unset=True) == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"k": 0}, ("k",)),
        ({"k": MAX_K + 1}, ("k",)),
        ({"k": "10"}, ("k",)),
        ({"k": 2.5}, ("k",)),
        ({"k": True}, ("k",)),
        ({"user_id": 17850}, ("user_id",)),
        ({"user_id": ""}, ("user_id",)),
        ({"user_id": "u" * (MAX_ID_LENGTH + 1)}, ("user_id",)),
        ({"session": {"recent": ["x"] * (MAX_RECENT + 1)}}, ("session", "recent")),
        ({"session": {"recent": [1]}}, ("session", "recent", 0)),
        ({"session": None}, ("session",)),
        ({"exclude_items": ["x"] * (MAX_EXCLUDED + 1)}, ("exclude_items",)),
        ({"exclude_seen": "yes"}, ("exclude_seen",)),
        ({"limit": 5}, ("limit",)),
    ],
)
def test_requests_outside_the_limits_name_the_field(body: dict[str, Any], field: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        RecommendRequest.model_validate(body)
    assert refused.value.errors()[0]["loc"] == field


def test_similar_needs_an_item() -> None:
    with pytest.raises(ValidationError, match="item_id"):
        SimilarRequest.model_validate({"k": 3})
