"""Compile a filter expression to one test over item rows: array operations, nothing evaluated as code.

The readable twin is `contract.filters.satisfies`, one item at a time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retrank.contract.filters import Filter, Term
from retrank.serving.item_columns import Column, ItemColumns, Mask, Rows
from retrank.serving.row_changes import RowChanges


def sieve(wanted: Filter, columns: ItemColumns, changes: RowChanges) -> Mask:
    """Return the test of an expression.

    Args:
        wanted: the expression.
        columns: attributes as sealed in the bundle.
        changes: what changed since.
    """
    if wanted.not_ is not None:
        inner = sieve(wanted.not_, columns, changes)
        return lambda rows: ~inner(rows)
    if wanted.term is not None:
        return changes.test(columns.column(wanted.term.attribute), wanted.term)
    parts = [sieve(part, columns, changes) for part in wanted.parts]
    return _all(parts) if wanted.all is not None else _any(parts)


def unknown_attributes(wanted: Filter, columns: ItemColumns, changes: RowChanges) -> bool:
    """Tell whether an expression names an attribute that no item has."""
    return any(column is None and not changes.knows(term.attribute) for term, column in _columns_of(wanted, columns))


def mistyped_attributes(wanted: Filter, columns: ItemColumns) -> bool:
    """Tell whether an expression compares a sealed attribute with a value of another type, which no item then equals.

    Only an item that was changed since the bundle was sealed, or is new, may have a value of that type.
    """
    return any(column is not None and not column.fits(term) for term, column in _columns_of(wanted, columns))


def _columns_of(wanted: Filter, columns: ItemColumns) -> Iterator[tuple[Term, Column | None]]:
    return ((term, columns.column(term.attribute)) for term in wanted.terms())


# Each part looks only at the rows that the parts before it left open; a mask is a fresh array, so it may be written to.


def _all(parts: list[Mask]) -> Mask:
    def test(rows: Rows) -> NDArray[np.bool_]:
        passed = parts[0](rows)
        for part in parts[1:]:
            left = np.flatnonzero(passed)
            passed[left] = part(rows[left])
        return passed

    return test


def _any(parts: list[Mask]) -> Mask:
    def test(rows: Rows) -> NDArray[np.bool_]:
        passed = parts[0](rows)
        for part in parts[1:]:
            left = np.flatnonzero(~passed)
            passed[left] = part(rows[left])
        return passed

    return test
