"""Attributes of the whole catalogue as columns, for questions asked about many items at once.

A column of numbers is an array; texts and truth values are codes into a dictionary. Columns are made when first asked
for and kept with the bundle. Row 0, the padding, has no attributes.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.filters import Equals, OneOf, Range, Term, is_number

Rows = NDArray[np.int64]
Mask = Callable[[Rows], NDArray[np.bool_]]
"""`[C]` item rows -> `[C]` whether each passes."""


class Column(Protocol):
    """One attribute of N items."""

    def test(self, term: Term) -> Mask:
        """Return the test of a term, with everything that does not depend on the rows done once."""
        ...

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return the C values themselves, None where there is none."""
        ...


class Numbers:
    """A numeric attribute."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        """Keep `[N + 1]` float64, NaN = no value."""
        self._values = values

    def test(self, term: Term) -> Mask:
        """Compare numbers; a text or a truth value equals none of them."""
        if isinstance(term, Range):
            return self._within(term)
        if isinstance(term, Equals | OneOf):
            wanted = [term.value] if isinstance(term, Equals) else term.values
            return self._among(np.unique([float(one) for one in wanted if is_number(one)]))
        return lambda rows: ~np.isnan(self._values[rows])

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return floats."""
        return [None if np.isnan(value) else value for value in self._values[rows].tolist()]

    def _among(self, numbers: NDArray[np.float64]) -> Mask:
        """Search increasing numbers, so that many of them cost no more memory and hardly more time than one."""
        if len(numbers) == 0:
            return nothing_passes

        def test(rows: Rows) -> NDArray[np.bool_]:
            values = self._values[rows]
            nearest: NDArray[np.float64] = numbers[np.minimum(np.searchsorted(numbers, values), len(numbers) - 1)]
            found: NDArray[np.bool_] = nearest == values
            return found

        return test

    def _within(self, term: Range) -> Mask:
        def test(rows: Rows) -> NDArray[np.bool_]:
            values = self._values[rows]
            passed = ~np.isnan(values)
            if term.gt is not None:
                passed &= values > term.gt
            if term.gte is not None:
                passed &= values >= term.gte
            if term.lt is not None:
                passed &= values < term.lt
            if term.lte is not None:
                passed &= values <= term.lte
            return passed

        return test


class Words:
    """An attribute whose values are texts, or truth values."""

    def __init__(self, codes: NDArray[np.int32], values: list[JsonValue]) -> None:
        """Keep `[N + 1]` int32 codes; code c stands for `values[c - 1]`, 0 for no value."""
        self._codes = codes
        self._values = [None, *values]
        self._code_of = {(type(value), value): code for code, value in enumerate(values, start=1)}

    def test(self, term: Term) -> Mask:
        """Compare codes; nothing lies in a range of numbers."""
        if isinstance(term, Range):
            return nothing_passes
        if isinstance(term, Equals | OneOf):
            wanted = [term.value] if isinstance(term, Equals) else term.values
            found = [self._code_of.get((type(one), one)) for one in wanted]
            passes = np.zeros(len(self._values), dtype=bool)
            passes[[code for code in found if code is not None]] = True
            return lambda rows: passes[self._codes[rows]]
        return lambda rows: self._codes[rows] > 0

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return what the codes stand for."""
        return [self._values[code] for code in self._codes[rows].tolist()]


class ItemColumns:
    """Every attribute of a catalogue, by name."""

    def __init__(self, table: pa.Table) -> None:
        """Look at a table whose row i describes item row i + 1."""
        self._table = table
        self._made: dict[str, Column] = {}

    def column(self, name: str) -> Column | None:
        """Return one attribute; None when no item has it."""
        if name not in self._made:
            if name not in self._table.column_names:
                return None
            self._made[name] = _column(self._table.column(name))
        return self._made[name]


def nothing_passes(rows: Rows) -> NDArray[np.bool_]:
    """The test that no item passes."""
    return np.zeros(len(rows), dtype=bool)


def numbered(values: list[JsonValue]) -> NDArray[np.int64]:
    """Return one number per distinct value, equal for equal values and 0 for None; true is not 1."""
    numbers: dict[object, int] = {}
    return np.array(
        [
            0 if value is None else numbers.setdefault((isinstance(value, bool), value), len(numbers) + 1)
            for value in values
        ],
        dtype=np.int64,
    )


def _column(values: pa.ChunkedArray) -> Column:
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
        return Numbers(np.concatenate([[np.nan], np.where(np.isfinite(numbers), numbers, np.nan)]))
    encoded = values.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + 1
    return Words(np.concatenate([np.zeros(1, dtype=np.int32), codes]), encoded.dictionary.to_pylist())
