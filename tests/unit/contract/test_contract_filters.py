"""Filter expressions: what parses, what is refused with which pointer, and what an expression means."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from retrank.contract.api import RecommendRequest
from retrank.contract.filters import MAX_DEPTH, MAX_TERMS, Filter, satisfies

ITEM = {"brand": "acme", "price": 10, "sale": True, "note": None}


def _filter(expression: dict[str, Any]) -> Filter:
    return Filter.model_validate_json(json.dumps(expression))


def _eq(attribute: str, value: Any) -> dict[str, Any]:
    return {"eq": {"attribute": attribute, "value": value}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (_eq("brand", "acme"), True),
        (_eq("brand", "Acme"), False),
        (_eq("price", 10.0), True),
        (_eq("price", "10"), False),
        (_eq("sale", True), True),
        (_eq("sale", 1), False),
        (_eq("note", ""), False),
        ({"in": {"attribute": "brand", "values": ["other", "acme"]}}, True),
        ({"in": {"attribute": "price", "values": [True, "10"]}}, False),
        ({"range": {"attribute": "price", "gte": 10, "lt": 11}}, True),
        ({"range": {"attribute": "price", "gte": 10, "lte": 10}}, True),
        ({"range": {"attribute": "price", "gt": 10}}, False),
        ({"range": {"attribute": "brand", "gt": 0}}, False),
        ({"range": {"attribute": "sale", "gte": 0}}, False),
        ({"exists": {"attribute": "price"}}, True),
        ({"exists": {"attribute": "note"}}, False),
        ({"not": {"exists": {"attribute": "colour"}}}, True),
        ({"not": _eq("colour", "red")}, True),
        ({"all": [_eq("brand", "acme"), _eq("price", 1)]}, False),
        ({"any": [_eq("brand", "acme"), _eq("price", 1)]}, True),
    ],
)
def test_an_expression_means_what_it_says(expression: dict[str, Any], expected: bool) -> None:
    assert satisfies(ITEM, _filter(expression)) is expected


def _nested(depth: int) -> dict[str, Any]:
    expression = _eq("price", 1)
    for _ in range(depth - 1):
        expression = {"not": expression}
    return expression


@pytest.mark.parametrize(
    ("expression", "where"),
    [
        ({}, ["filter"]),
        ({"eq": {"attribute": "a", "value": 1}, "exists": {"attribute": "a"}}, ["filter"]),
        ({"all": []}, ["filter", "all"]),
        ({"all": [{"eval": "1"}]}, ["filter", "all", 0, "eval"]),
        ({"any": [_eq("a", None)]}, ["filter", "any", 0, "eq", "value"]),
        ({"any": [_eq("a", [1])]}, ["filter", "any", 0, "eq", "value"]),
        (_eq("a", "x" * 257), ["filter", "eq", "value"]),
        (_eq("", 1), ["filter", "eq", "attribute"]),
        ({"range": {"attribute": "a"}}, ["filter", "range"]),
        ({"range": {"attribute": "a", "gte": 2, "lte": 1}}, ["filter", "range"]),
        ({"range": {"attribute": "a", "gt": 2, "lte": 2}}, ["filter", "range"]),
        ({"range": {"attribute": "a", "gt": "1"}}, ["filter", "range", "gt"]),
        ({"all": [_eq("a", 1)] * (MAX_TERMS + 1)}, ["filter", "all"]),
    ],
)
def test_what_does_not_fit_is_pointed_at(expression: dict[str, Any], where: list[str | int]) -> None:
    with pytest.raises(ValidationError) as refused:
        RecommendRequest.model_validate_json(json.dumps({"filter": expression}))
    assert list(refused.value.errors()[0]["loc"]) == where


def test_depth_and_terms_are_bounded() -> None:
    assert _filter(_nested(MAX_DEPTH)).depth == MAX_DEPTH
    with pytest.raises(ValidationError, match="nested deeper"):
        _filter(_nested(MAX_DEPTH + 1))
    halves = [{"any": [_eq("a", 1)] * 33}, {"any": [_eq("a", 1)] * 33}]
    with pytest.raises(ValidationError, match="more than 64 terms"):
        _filter({"all": halves})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_numbers_are_finite(number: str) -> None:
    with pytest.raises(ValidationError):
        Filter.model_validate_json('{"eq": {"attribute": "a", "value": ' + number + "}}")
