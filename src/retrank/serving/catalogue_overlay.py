"""What has changed of a tenant's catalogue since its bundle was sealed, in the rows of that bundle.

A store holds changes by item id; requests need rows, and no lock or call on the way. So a view per bundle reads what is
new now and then, and puts a whole snapshot in the place of the last one by a single assignment. A request takes the
snapshot once and keeps to it. Who drives time calls `refresh`: every half second makes changes count within one.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.vocab import Vocab
from retrank.serving.stores.protocol import CatalogueOverlay, ItemChange


@dataclass(frozen=True)
class CatalogueSnapshot:
    """The changes up to one version; never changed in place.

    Attributes:
        version: the tenant's version it stands at; 0 before any change.
        hidden: `[N + 1]` bool by item row, read-only: deleted or unavailable, must not be shown. Row 0, padding, is.
        num_hidden: number of items hidden, padding not counted.
        attributes: by item row, what replaces attributes of the bundle, by name.
        unknown: newest change of every item that the bundle does not hold, by item id; deleted ones too.
    """

    version: int
    hidden: NDArray[np.bool_]
    num_hidden: int
    attributes: Mapping[int, Mapping[str, JsonValue]]
    unknown: Mapping[str, ItemChange]

    @classmethod
    def untouched(cls, num_items: int) -> "CatalogueSnapshot":
        """Return the snapshot of a catalogue of N items in which nothing has changed."""
        hidden = np.zeros(num_items + 1, dtype=bool)
        hidden[0] = True
        hidden.setflags(write=False)
        return cls(0, hidden, 0, MappingProxyType({}), MappingProxyType({}))

    def after(self, changes: Sequence[ItemChange], items: Vocab) -> "CatalogueSnapshot":
        """Return the snapshot after some changes, by increasing version, to items of the bundle or not."""
        hidden, attributes, unknown = self.hidden.copy(), dict(self.attributes), dict(self.unknown)
        for change in changes:
            row = items.row(change.item_id)
            if not row:
                unknown[change.item_id] = change
                continue
            hidden[row] = change.deleted or not change.available
            attributes.pop(row, None)
            if change.attributes:
                attributes[row] = change.attributes
        hidden.setflags(write=False)
        version = max([self.version, *(change.version for change in changes)])
        num_hidden = int(np.count_nonzero(hidden)) - 1
        return CatalogueSnapshot(version, hidden, num_hidden, MappingProxyType(attributes), MappingProxyType(unknown))


class CatalogueView:
    """One tenant's changes on one bundle; `snapshot` may be read by any thread at any time.

    What it has learnt stays, whatever becomes of the store: changes that were forgotten there because newer bundles
    hold them still count for this one.
    """

    def __init__(self, store: CatalogueOverlay, tenant: str, items: Vocab) -> None:
        """Stand at a catalogue in which nothing has changed, until the first `refresh`."""
        self._store, self._tenant, self._items = store, tenant, items
        self._refreshing = threading.Lock()
        self.snapshot = CatalogueSnapshot.untouched(len(items))

    def refresh(self) -> bool:
        """Read what is new and swap the snapshot; tell whether anything was. Does nothing while another thread does it.

        Costs one call of the store when nothing is new, and a copy of the snapshot when something is.

        Raises:
            StoreUnavailable: the store does not answer; the snapshot stays.
        """
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            before = self.snapshot
            changes = self._store.item_changes(self._tenant, before.version)
            if changes:
                self.snapshot = before.after(changes, self._items)
            return bool(changes)
        finally:
            self._refreshing.release()
