"""A state of the catalogue in the rows of one bundle: what filters and answers read of changed and new items."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.filters import OneOf, Term, meets
from retrank.contract.vocab import Vocab
from retrank.serving.changes import Changes
from retrank.serving.item_columns import Column, Mask, Rows, nothing_passes
from retrank.serving.new_rows import NewRows, sealed_rows
from retrank.serving.stores.protocol import ItemChange


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Changes in the rows of one bundle.

    Attributes:
        hidden: `[N + 1]` True for items that are deleted or not available; None when there is none.
        attributes: name -> item row -> value, None where the attribute was taken away.
        touched: `[N + 1]` True for items of which an attribute was ever changed; None when there is none.
        new: items behind the rows of the bundle; None when there are none, or its model knows items by id alone.
    """

    hidden: NDArray[np.bool_] | None = None
    attributes: Mapping[str, Mapping[int, JsonValue]] = field(default_factory=dict)
    touched: NDArray[np.bool_] | None = None
    new: NewRows | None = None

    @classmethod
    def of(cls, changes: Changes, items: Vocab) -> "RowChanges":
        """Translate; items the bundle does not know are left out."""
        return cls().later({}, changes.items.values(), items)

    def later(self, before: Mapping[str, ItemChange], newest: Iterable[ItemChange], items: Vocab) -> "RowChanges":
        """Return these changes after further ones, for about what those alone cost.

        Args:
            before: what this was made of.
            newest: what was changed since; takes the place of what was known of the same items.
            items: of the bundle.
        """
        hidden = np.zeros(len(items) + 1, dtype=bool) if self.hidden is None else self.hidden.copy()
        touched = np.zeros(len(items) + 1, dtype=bool) if self.touched is None else self.touched.copy()
        attributes, own = dict(self.attributes), dict[str, dict[int, JsonValue]]()

        def of_rows(name: str) -> dict[int, JsonValue]:
            if name not in own:
                attributes[name] = own[name] = dict(attributes.get(name, {}))
            return own[name]

        for change in newest:
            row = items.row(change.item_id)
            if not row:
                continue
            hidden[row] = change.deleted or not change.available
            replaced = before.get(change.item_id)
            for name in (replaced and replaced.attributes) or ():
                of_rows(name).pop(row, None)
            for name, value in (change.attributes or {}).items():
                of_rows(name)[row] = value
                touched[row] = True
        kept = {name: rows for name, rows in attributes.items() if rows}
        return RowChanges(hidden if hidden.any() else None, kept, touched if kept else None)

    def test(self, column: Column | None, term: Term) -> Mask:
        """Return the test of a term on a column with these changes over it."""
        sealed, new = self._test_sealed(column, term), self.new
        if new is None:
            return sealed
        meets_term = _meeting(term)

        def test(rows: Rows) -> NDArray[np.bool_]:
            passed = sealed(sealed_rows(new, rows))
            for position, place in new.among(rows):
                passed[position] = meets_term(new.value(place, term.attribute))
            return passed

        return test

    def _test_sealed(self, column: Column | None, term: Term) -> Mask:
        """Return the test for rows of the bundle."""
        unchanged = nothing_passes if column is None else column.test(term)
        changed, touched = self.attributes.get(term.attribute), self.touched
        if not changed or touched is None:
            return unchanged
        meets_term = _meeting(term)

        def test(rows: Rows) -> NDArray[np.bool_]:
            passed = unchanged(rows)
            for position in np.flatnonzero(touched[rows]).tolist():
                row = int(rows[position])
                if row in changed:
                    passed[position] = meets_term(changed[row])
            return passed

        return test

    def knows(self, name: str) -> bool:
        """Tell whether an attribute was changed, or a new item has it."""
        return name in self.attributes or (self.new is not None and name in self.new.names)

    def unavailable(self, rows: Rows) -> NDArray[np.bool_] | None:
        """Tell which of `[C]` item rows may not be shown; None when every item may. New items all may."""
        return None if self.hidden is None else self.hidden[sealed_rows(self.new, rows)]

    def values(self, column: Column | None, name: str, rows: Rows) -> list[JsonValue]:
        """Return the values of an attribute with these changes over it, None where there is none."""
        values: list[JsonValue]
        values = [None for _ in rows] if column is None else column.values(sealed_rows(self.new, rows))
        changed = self.attributes.get(name)
        if changed:
            values = [changed.get(row, value) for row, value in zip(rows.tolist(), values, strict=True)]
        if self.new is not None:
            for position, place in self.new.among(rows):
                values[position] = self.new.value(place, name)
        return values

    def shown(self, row: int, attributes: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the attributes of an item with its changes; the given ones are left as they are."""
        newer = {name: of_rows[row] for name, of_rows in self.attributes.items() if row in of_rows}
        if not newer:
            return attributes
        return {name: value for name, value in {**attributes, **newer}.items() if value is not None}


UNCHANGED = RowChanges()


def _meeting(term: Term) -> Callable[[JsonValue], bool]:
    """Return `meets` for one term; of many wanted values a look-up, as many items may have changed."""
    if not isinstance(term, OneOf):
        return lambda value: meets(value, term)
    wanted = {(isinstance(one, bool), one) for one in term.values}  # true is not 1
    return lambda value: isinstance(value, str | int | float) and (isinstance(value, bool), value) in wanted
