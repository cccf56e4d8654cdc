"""Turn what callers say about items into changes in the shared store. Several words on one item: the last one counts.

A patch is laid over the newest state this process can read. Two replicas that patch one item in the same instant may
lose one of the patches; a caller that cannot have that sends `upsert`, which says everything at once.
"""

from collections.abc import Callable, Sequence

from pydantic import JsonValue

from retrank.contract.catalogue_changes import BulkItem, CatalogueReceipt
from retrank.contract.vocab import Vocab
from retrank.serving.changes import Changes
from retrank.serving.new_rows import NewRows
from retrank.serving.overlay import Overlay
from retrank.serving.stores.protocol import CatalogueOverlay, ItemChange

_MAX_UNKNOWN = 100


class CatalogueDesk:
    """Writes changes of items."""

    def __init__(self, store: CatalogueOverlay, overlay: Overlay) -> None:
        """Write to a store.

        Args:
            store: takes the changes.
            overlay: this process's view of them, read before and after a change.
        """
        self._store, self._overlay = store, overlay

    def apply(
        self,
        tenant: str,
        asked: Sequence[BulkItem],
        items: Vocab,
        new_items: Callable[[Changes], NewRows | None] = lambda _: None,
    ) -> CatalogueReceipt:
        """Store changes, all or none.

        Args:
            tenant: whose catalogue.
            asked: the changes in order.
            items: of the bundle at hand, to name what it does not know.
            new_items: those of a state that are offered although the bundle does not know them.

        Raises:
            StoreUnavailable: they may or may not have been stored; send them again.
            StoreFull: there are too many changes for one overlay.
        """
        known = self._overlay.read(tenant)
        changes: dict[str, ItemChange] = {}
        for one in asked:
            changes[one.item_id] = _change(one, changes.get(one.item_id) or _now(known, one.item_id))
        version = self._store.change_items(tenant, list(changes.values()))
        shown = self._overlay.read(tenant)  # this process shows them at once, others when they look again
        self._overlay.prepare(shown)
        new = new_items(shown)
        unknown = [item for item in changes if not items.row(item)][:_MAX_UNKNOWN]
        offered = [] if new is None else [item for item in unknown if item in new.places]
        return CatalogueReceipt(version=version, changed=len(changes), unknown=unknown, offered=offered)


def _now(known: Changes, item_id: str) -> ItemChange:
    return known.items.get(item_id) or ItemChange(item_id, 0, deleted=False, available=True, attributes=None)


def _change(asked: BulkItem, before: ItemChange) -> ItemChange:
    if asked.action == "delete":
        return before._replace(deleted=True)
    if asked.action == "upsert":
        attributes: dict[str, JsonValue] = dict(asked.attributes or {})
        return before._replace(deleted=False, available=asked.available is not False, attributes=attributes)
    merged = None if asked.attributes is None else {**(before.attributes or {}), **asked.attributes}
    available = before.available if asked.available is None else asked.available
    return before._replace(available=available, attributes=before.attributes if merged is None else merged)
