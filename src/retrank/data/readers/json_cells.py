"""One value out of every cell that holds JSON, as the log of live events keeps the context of an event."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pat

from retrank.contract.context import as_text


def parts(column: str, names: Sequence[str]) -> tuple[str, str | None]:
    """Return the column to read and the key within its cells: `context.country` where only `context` is a column."""
    head, _, key = column.partition(".")
    return (head, key) if key and column not in names and head in names else (column, None)


def values_of(column: pa.Array, key: str) -> pa.Array:
    """Return the text of a key of each cell; null where there is none, or what is there is no single value.

    Each distinct cell is parsed once. A number is written as a request's would be compared: `3` for 3.0.
    """
    if not (pat.is_string(column.type) or pat.is_large_string(column.type)):
        return pa.nulls(len(column), pa.string())
    encoded = column.dictionary_encode()
    texts = [_value(cell, key) for cell in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _value(cell: str, key: str) -> str | None:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    value = found.get(key) if isinstance(found, dict) else None
    text = as_text(value) if isinstance(value, bool | int | float | str) else None
    return None if text is None or _broken(text) else text


def _broken(text: str) -> bool:
    """Tell whether a text has half a character, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)
