"""Rules between fields as JSON Schema, so that the OpenAPI document says what validators of the contract enforce."""

from pydantic.config import JsonDict


def some_given(*names: str) -> JsonDict:
    """At least one of the fields is there and not null."""
    return {"anyOf": [_given(name) for name in names]}


def one_given(*names: str) -> JsonDict:
    """Exactly one of the fields is there and not null."""
    return {"oneOf": [_given(name) for name in names]}


def none_given(*names: str) -> JsonDict:
    """Each of the fields is absent or null."""
    return {"properties": {name: {"type": "null"} for name in names}}


def where(name: str, value: str, rule: JsonDict) -> JsonDict:
    """The field has a value, and a rule holds."""
    return {"allOf": [{"required": [name], "properties": {name: {"const": value}}}, rule]}


def _given(name: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
