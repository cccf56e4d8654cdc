"""Single values in requests: true or false, a number, or a text. One type, so that an error has one plain pointer."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

MAX_TEXT = 256
MAX_LONG_TEXT = 4_096
MAX_WHOLE = 1 << 53
"""Whole numbers beyond this are not exact in JSON elsewhere."""


def _checked(max_text: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) <= MAX_WHOLE:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, str) and len(value) <= max_text:
            return value
        raise ValueError(f"expected true, false, a finite number, or a text of at most {max_text} characters")

    return check


def _schema(max_text: int) -> WithJsonSchema:
    kinds = [{"type": "boolean"}, {"type": "number"}, {"type": "string", "maxLength": max_text}]
    return WithJsonSchema({"anyOf": kinds})


Scalar = Annotated[bool | int | float | str, PlainValidator(_checked(MAX_TEXT)), _schema(MAX_TEXT)]
LongScalar = Annotated[bool | int | float | str, PlainValidator(_checked(MAX_LONG_TEXT)), _schema(MAX_LONG_TEXT)]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Marks a whole number of which 5.0 is one, as in JSON Schema and for callers whose language has only floats. Bounds
stand before it (`Annotated[int, Field(ge=1), WHOLE]`), or the description of the API does not have them.
"""
