"""One state of a tenant's catalogue: what changed since the bundle was sealed.

A state never changes, so a request sees one from its beginning to its end. It leads to the state before as long as
somebody keeps that, so that what is made of states costs what changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from weakref import ReferenceType, ref

from retrank.serving.stores.protocol import ItemChange


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
