"""The catalogue as it is now: changes since the bundle was sealed, read from the shared store.

`Overlay` is kept fresh by a thread that polls it. What it returns never changes afterwards, so a request sees one state
of the catalogue from its beginning to its end. `RowChanges` is that state in the rows of one bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.filters import Term, meets
from retrank.contract.vocab import Vocab
from retrank.serving.item_columns import Column, Mask, Rows, nothing_passes
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.stores.protocol import CatalogueOverlay, ItemChange

_MAX_TENANTS = 1_000


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Changes:
    """Every changed item of one tenant at one version; compared by identity."""

    version: int = 0
    items: Mapping[str, ItemChange] = field(default_factory=lambda: MappingProxyType({}))

    def with_more(self, changes: Sequence[ItemChange]) -> "Changes":
        """Return the state after further changes."""
        if not changes:
            return self
        newest = {change.item_id: change for change in changes}
        version = max(self.version, *(change.version for change in changes))
        return Changes(version, MappingProxyType({**self.items, **newest}))


NO_CHANGES = Changes()


class Overlay:
    """The newest known changes of each tenant's catalogue."""

    def __init__(self, store: CatalogueOverlay, clock: Callable[[], float], every_s: float) -> None:
        """Start without knowledge.

        Args:
            store: where changes are kept.
            clock: monotonic seconds.
            every_s: how often `poll` is called.
        """

        def newer(tenant: str, known: Changes) -> Changes:
            return known.with_more(store.item_changes(tenant, known.version))

        self._known = KeptFresh(newer, NO_CHANGES, clock, every_s=every_s, max_keys=_MAX_TENANTS)

    def look(self, tenant: str) -> tuple[Changes, bool]:
        """Return the changes and whether they are fresh; False while the store does not answer."""
        return self._known.look(tenant)

    def read(self, tenant: str) -> Changes:
        """Ask the store now.

        Raises:
            StoreUnavailable: it does not answer.
        """
        return self._known.refresh(tenant)

    def poll(self) -> None:
        """Look for changes of every tenant that was asked about lately."""
        self._known.poll()


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Changes in the rows of one bundle.

    Attributes:
        hidden: `[N + 1]` True for items that are deleted or not available; None when there is none.
        attributes: name -> item row -> value, None where the attribute was taken away.
    """

    hidden: NDArray[np.bool_] | None = None
    attributes: Mapping[str, Mapping[int, JsonValue]] = field(default_factory=dict)

    @classmethod
    def of(cls, changes: Changes, items: Vocab) -> "RowChanges":
        """Translate; items the bundle does not know are left out."""
        hidden = np.zeros(len(items) + 1, dtype=bool)
        attributes: dict[str, dict[int, JsonValue]] = {}
        for change in changes.items.values():
            row = items.row(change.item_id)
            hidden[row] = row > 0 and (change.deleted or not change.available)
            for name, value in (change.attributes or {}).items() if row else ():
                attributes.setdefault(name, {})[row] = value
        return cls(hidden if hidden.any() else None, attributes)

    def test(self, column: Column | None, term: Term) -> Mask:
        """Return the test of a term on a column with these changes over it."""
        unchanged = nothing_passes if column is None else column.test(term)
        changed = self.attributes.get(term.attribute)
        if not changed:
            return unchanged

        def test(rows: Rows) -> NDArray[np.bool_]:
            passed = unchanged(rows)
            for position, row in enumerate(rows.tolist()):
                if row in changed:
                    passed[position] = meets(changed[row], term)
            return passed

        return test

    def values(self, column: Column | None, name: str, rows: Rows) -> list[JsonValue]:
        """Return the values of an attribute with these changes over it, None where there is none."""
        values: list[JsonValue] = [None for _ in rows] if column is None else column.values(rows)
        changed = self.attributes.get(name)
        if not changed:
            return values
        return [changed.get(row, value) for row, value in zip(rows.tolist(), values, strict=True)]

    def shown(self, row: int, attributes: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the attributes of an item with its changes; the given ones are left as they are."""
        newer = {name: of_rows[row] for name, of_rows in self.attributes.items() if row in of_rows}
        if not newer:
            return attributes
        return {name: value for name, value in {**attributes, **newer}.items() if value is not None}


UNCHANGED = RowChanges()
