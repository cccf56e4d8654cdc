"""Attributes of the whole catalogue as columns, for questions asked about many items at once.

They are views of the mapped arrays of a bundle, see `contract.attributes`. Row 0, the padding, has no attributes.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.attributes import FALSE, NO_INTEGER, TRUE, AttributeArrays
from retrank.contract.filters import Equals, OneOf, Range, Term, is_number
from retrank.contract.manifest import ItemColumn
from retrank.contract.scalars import Scalar
from retrank.contract.texts import Texts

_Value = TypeVar("_Value", np.float64, np.int32)
Rows = NDArray[np.int64]
Mask = Callable[[Rows], NDArray[np.bool_]]
"""`[C]` item rows -> `[C]` whether each passes."""


class Column(Protocol):
    """One attribute of N items."""

    def test(self, term: Term) -> Mask:
        """Return the test of a term, with everything that does not depend on the rows done once."""
        ...

    def fits(self, term: Term) -> bool:
        """Tell whether a term compares with values of the type that this attribute has, and with no other."""
        ...

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return the C values themselves, None where there is none."""
        ...


class Numbers:
    """A numeric attribute; whole numbers are compared as float64, and shown as they are."""

    def __init__(self, values: NDArray[np.float64] | NDArray[np.int64]) -> None:
        """Look at `[N + 1]` float64, NaN = no value, or int64, NO_INTEGER = no value."""
        self._values = values

    def test(self, term: Term) -> Mask:
        """Compare numbers; a text or a truth value equals none of them."""
        if isinstance(term, Range):
            return self._within(term)
        if isinstance(term, Equals | OneOf):
            wanted = [term.value] if isinstance(term, Equals) else term.values
            return _among(self._of, np.unique([float(one) for one in wanted if is_number(one)]))
        return lambda rows: ~np.isnan(self._of(rows))

    def fits(self, term: Term) -> bool:
        """Tell whether a term is about numbers."""
        return all(is_number(one) for one in _compared(term))

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return the numbers."""
        values = self._values[rows].tolist()
        return [None if value == NO_INTEGER or value != value else value for value in values]  # noqa: PLR0124  (NaN)

    def _of(self, rows: Rows) -> NDArray[np.float64]:
        values = self._values[rows]
        floats = values.astype(np.float64)
        if values.dtype == np.int64:
            floats[values == NO_INTEGER] = np.nan
        return floats

    def _within(self, term: Range) -> Mask:
        def test(rows: Rows) -> NDArray[np.bool_]:
            values = self._of(rows)
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


class Codes:
    """An attribute whose values are few or many words, or truth values: codes stand for them."""

    def __init__(
        self,
        codes: NDArray[np.int32],
        kind: type[str] | type[bool],
        code_of: Callable[[JsonValue], int | None],
        value_of: Callable[[int], JsonValue],
    ) -> None:
        """Look at `[N + 1]` int32 codes.

        Args:
            codes: 0 = no value.
            kind: of every value.
            code_of: value -> its code >= 1, None when no item has it.
            value_of: code >= 1 -> value.
        """
        self._codes, self._kind, self._code_of, self._value_of = codes, kind, code_of, value_of

    def test(self, term: Term) -> Mask:
        """Compare codes; nothing lies in a range of numbers."""
        if isinstance(term, Range):
            return nothing_passes
        if isinstance(term, Equals | OneOf):
            wanted = [term.value] if isinstance(term, Equals) else term.values
            found = [code for one in wanted if (code := self._code_of(one)) is not None]
            return _among(lambda rows: self._codes[rows], np.unique(np.array(found, dtype=np.int32)))
        return lambda rows: self._codes[rows] > 0

    def fits(self, term: Term) -> bool:
        """Tell whether a term is about words, or about truth values; a range is about numbers."""
        return not isinstance(term, Range) and all(isinstance(one, self._kind) for one in _compared(term))

    def values(self, rows: Rows) -> list[JsonValue]:
        """Return what the codes stand for."""
        return [self._value_of(code) if code else None for code in self._codes[rows].tolist()]


class ItemColumns:
    """Every attribute of a catalogue, by name."""

    def __init__(self, arrays: AttributeArrays) -> None:
        """Look at the attributes of N items."""
        self._columns = {column.name: _column(column, arrays) for column in arrays.columns}

    def __iter__(self) -> Iterator[tuple[str, Column]]:
        """Yield all attributes with their names."""
        return iter(self._columns.items())

    def column(self, name: str) -> Column | None:
        """Return one attribute; None when no item has it."""
        return self._columns.get(name)


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


def _compared(term: Term) -> list[Scalar]:
    """Return the values that a term names."""
    if isinstance(term, OneOf):
        return term.values
    return [term.value] if isinstance(term, Equals) else []


def _among(values_of: Callable[[Rows], NDArray[_Value]], wanted: NDArray[_Value]) -> Mask:
    """Search increasing values, so that many of them cost no more memory and hardly more time than one."""
    if len(wanted) == 0:
        return nothing_passes

    def test(rows: Rows) -> NDArray[np.bool_]:
        values = values_of(rows)
        nearest = wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)]
        found: NDArray[np.bool_] = nearest == values
        return found

    return test


def _column(column: ItemColumn, arrays: AttributeArrays) -> Column:
    if column.kind == "integer":
        return Numbers(arrays.integers[column.place])
    if column.kind == "number":
        return Numbers(arrays.numbers[column.place])
    if column.kind == "truth":
        return Codes(arrays.codes[column.place], bool, _truth_code, lambda code: code == TRUE)
    words = arrays.words
    return Codes(arrays.codes[column.place], str, partial(_word_code, words, column), lambda code: words[code - 1])


def _truth_code(value: JsonValue) -> int | None:
    return (TRUE if value else FALSE) if isinstance(value, bool) else None


def _word_code(words: Texts, column: ItemColumn, value: JsonValue) -> int | None:
    if not isinstance(value, str):
        return None
    number = words.find(value, column.first_word, column.stop_word)
    return None if number is None else number + 1
