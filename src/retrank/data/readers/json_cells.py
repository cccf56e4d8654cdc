"""One value out of every cell that holds JSON, as the log of live events keeps the context of an event, or a struct."""

import json
from collections.abc import Sequence
from math import isfinite

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from retrank.contract.context import as_text
from retrank.contract.errors import SourceError
from retrank.data.readers.normalise import told_in


def parts(column: str, names: Sequence[str]) -> tuple[str, str | None]:
    """Return the column to read and the key within its cells: `context.country` where only `context` is a column."""
    head, _, key = column.partition(".")
    return (head, key) if key and column not in names and head in names else (column, None)


def values_of(column: pa.Array, key: str) -> pa.Array:
    """Return what each cell has under a key; null where there is none, or what is there in JSON is no single value.

    JSON gives text, and each distinct cell is parsed once; a number is written as a request's would be compared: `3`
    for 3.0. A struct gives its field as it is.

    Raises:
        SourceError: the column is neither JSON nor a struct, or the struct has no such field.
    """
    cells = told_in(column)
    if pat.is_struct(cells.type):
        names = [field.name for field in cells.type]
        if key not in names:
            raise SourceError(f"structs with the fields {names} have no {key!r}; check data.columns")
        return pc.struct_field(cells, key)
    if not (pat.is_string(cells.type) or pat.is_large_string(cells.type) or pat.is_null(cells.type)):
        raise SourceError(f"{key!r} is looked for in cells of {cells.type}; expected JSON texts or structs")
    encoded = cells.cast(pa.large_string()).dictionary_encode()
    texts = [_value(cell, key) for cell in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _value(cell: str, key: str) -> str | None:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    value = found.get(key) if isinstance(found, dict) else None
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not isfinite(value)):
        return None
    text = as_text(value)
    return None if _broken(text) else text


def _broken(text: str) -> bool:
    """Tell whether a text has half a character, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)
