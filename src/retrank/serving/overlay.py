"""The catalogue as it is now: changes since the bundle was sealed, read from the shared store.

`Overlay` is kept fresh by a thread that polls it. What it returns never changes afterwards, so a request sees one state
of the catalogue from its beginning to its end. `RowChanges` is that state in the rows of one bundle.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.filters import OneOf, Term, meets
from retrank.contract.vocab import Vocab
from retrank.serving.item_columns import Column, Mask, Rows, nothing_passes
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.new_rows import NewRows, sealed_rows
from retrank.serving.stores.protocol import CatalogueOverlay, ItemChange

_MAX_TENANTS = 1_000


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Changes:
    """Every changed item of one tenant at one version; compared by identity.

    Attributes:
        version: of the newest change.
        items: the changes by item id.
        newest: those that the state before did not have.
        last: the one with that version.
        before: the state before, while somebody keeps it; what was made of it needs no more than `newest`.
        forgotten: changes up to this version were dropped, as every bundle in use holds them.
        akin: the state known before one that was not made of it (changes were forgotten, or all were read again), while
            somebody keeps it; what was made of an item that is the same in both is still good.
    """

    version: int = 0
    items: Mapping[str, ItemChange] = field(default_factory=lambda: MappingProxyType({}))
    newest: tuple[ItemChange, ...] = ()
    last: ItemChange | None = None
    before: "ReferenceType[Changes] | None" = None
    forgotten: int = 0
    akin: "ReferenceType[Changes] | None" = None

    def with_more(self, changes: Sequence[ItemChange]) -> "Changes":
        """Return the state after further changes."""
        if not changes:
            return self
        newest = {change.item_id: change for change in changes}
        last = max(changes, key=lambda change: change.version)
        version = max(self.version, last.version)
        items = MappingProxyType({**self.items, **newest})
        return Changes(version, items, tuple(newest.values()), last, ref(self), self.forgotten)

    def without(self, up_to: int) -> "Changes":
        """Return the state without the changes up to a version, which bundles hold."""
        if up_to <= self.forgotten:
            return self
        kept = {item: change for item, change in self.items.items() if change.version > up_to}
        return replace(self, items=MappingProxyType(kept), newest=(), before=None, forgotten=up_to)

    def followed_by(self, found: Sequence[ItemChange]) -> bool:
        """Tell whether what a store has from this version on, the version included, continues this state.

        The last change must still be there, or have made room for a newer one of its item. Otherwise the store lost
        changes (a replica of it that lagged took over, a backup came back) or forgot those that a bundle now holds.
        """
        last = self.last
        return last is None or any(
            change == last or (change.item_id == last.item_id and change.version > last.version) for change in found
        )


NO_CHANGES = Changes()


class Overlay:
    """The newest known changes of each tenant's catalogue."""

    def __init__(
        self,
        store: CatalogueOverlay,
        clock: Callable[[], float],
        every_s: float,
        carry_over: Callable[[Changes], None] = lambda _: None,
        prepare: Callable[[Changes], None] = lambda _: None,
    ) -> None:
        """Start without knowledge.

        Args:
            store: where changes are kept.
            clock: monotonic seconds.
            every_s: how often `poll` is called.
            carry_over: told every new state before requests see it, perhaps by one that waits; quick.
            prepare: told all states after every poll, by the thread that polls; may take long.
        """

        def newer(tenant: str, known: Changes) -> Changes:
            forgotten = store.forgotten_changes(tenant)
            changes = store.item_changes(tenant, max(known.version - 1, 0))
            if known.followed_by(changes):
                found = known.with_more([change for change in changes if change.version > known.version])
            else:
                found = NO_CHANGES.with_more(store.item_changes(tenant, 0))
            found = found.without(forgotten)
            if found is not known:
                if found.before is None or found.before() is not known:
                    found = replace(found, akin=ref(known))
                carry_over(found)
            return found

        self._prepare = prepare
        self._known = KeptFresh(newer, NO_CHANGES, clock, every_s=every_s, max_keys=_MAX_TENANTS)

    def look(self, tenant: str) -> tuple[Changes, bool]:
        """Return the changes and whether they are fresh; False while the store does not answer."""
        return self._known.look(tenant)

    def known(self) -> list[Changes]:
        """Return the changes of every tenant that was asked about lately."""
        return self._known.values()

    def read(self, tenant: str) -> Changes:
        """Ask the store now.

        Raises:
            StoreUnavailable: it does not answer.
        """
        return self._known.refresh(tenant)

    def prepare(self, changes: Changes) -> None:
        """Let those who answer prepare for a state now, at the cost of the caller."""
        self._prepare(changes)

    def poll(self) -> None:
        """Look for changes of every tenant that was asked about lately, and prepare for what is known."""
        self._known.poll()
        for changes in self.known():
            self._prepare(changes)  # old ones too: much may be left, and somebody may have begun to answer


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
