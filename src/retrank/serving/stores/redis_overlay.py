"""Changes of items in Redis: a counter, an order, and two hashes per tenant, in one slot.

They have no expiry: a server that evicts keys must only evict those that have one (`volatile-*`, or `noeviction`).
"""

import json
from collections.abc import Sequence

from retrank.serving.stores.entries import tag
from retrank.serving.stores.protocol import ItemChange, StoreFull, json_text
from retrank.serving.stores.redis_connection import Call, Connection
from retrank.serving.stores.redis_scripts import CHANGE_ITEMS, FORGET_CHANGES, ITEM_CHANGES
from retrank.serving.stores.settings import StateSettings

_CHUNK = 1_000
"""Items one script touches, a few milliseconds in which Redis does nothing else."""


class RedisOverlay:
    """The `CatalogueOverlay` part of the store."""

    def __init__(self, connection: Connection, settings: StateSettings) -> None:
        """Keep changes behind a connection."""
        self._connection, self._settings = connection, settings

    def change_items(self, tenant: str, changes: Sequence[ItemChange]) -> int:
        """Store changes, each under a version of its own."""
        words: list[str | int] = [self._settings.max_changed_items]
        for change in changes:
            text = None if change.attributes is None else json_text(dict(change.attributes))
            words += [change.item_id, f"{change.deleted:d}{change.available:d}", f"{text is not None:d}", text or ""]
        version = int(self._connection.run_one(Call(CHANGE_ITEMS, self._overlay_keys(tenant), tuple(words))))
        if version < 0:
            raise StoreFull(
                f"more than {self._settings.max_changed_items:,} items changed; seal a bundle that has them"
            )
        return version

    def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
        """Return the newest state of every item changed after a version, by increasing version."""
        found: dict[str, ItemChange] = {}
        while True:
            rows = self._connection.run_one(Call(ITEM_CHANGES, self._overlay_keys(tenant), (after, _CHUNK)))
            for item_id, version, state, text in rows:
                after = int(version)
                found.pop(item_id, None)  # it changed again since an earlier chunk
                attributes = None if text is None else json.loads(text)
                found[item_id] = ItemChange(item_id, after, state[0] == "1", state[1] == "1", attributes)
            if len(rows) < _CHUNK:
                return list(found.values())

    def forget_changes(self, tenant: str, up_to: int) -> int:
        """Drop the changes up to a version, which a bundle now holds."""
        total = 0
        while True:
            keys = (*self._overlay_keys(tenant), self._forgotten_key(tenant))
            gone = int(self._connection.run_one(Call(FORGET_CHANGES, keys, (up_to, _CHUNK))))
            total += gone
            if gone < _CHUNK:
                return total

    def forgotten_changes(self, tenant: str) -> int:
        """Return the version up to which changes were dropped."""
        return int(self._connection.run_one(Call("GET", (self._forgotten_key(tenant),))) or 0)

    def _forgotten_key(self, tenant: str) -> str:
        return f"{self._catalogue(tenant)}:forgotten"

    def _catalogue(self, tenant: str) -> str:
        return f"{self._settings.key_prefix}:{{{tag('catalogue', tenant, '')}}}"

    def _overlay_keys(self, tenant: str) -> tuple[str, ...]:
        name = self._catalogue(tenant)
        return f"{name}:version", f"{name}:order", f"{name}:state", f"{name}:attributes"
