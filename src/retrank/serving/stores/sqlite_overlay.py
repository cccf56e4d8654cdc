"""Changes of items in SQLite."""

import json
from collections.abc import Sequence

from retrank.serving.stores.protocol import ItemChange, StoreFull, json_text
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_database import Database


class SqliteOverlay:
    """The `CatalogueOverlay` part of the store; flushed to the disk, as no log has it."""

    def __init__(self, database: Database, settings: StateSettings) -> None:
        """Keep changes in a database."""
        self._database, self._settings = database, settings

    def change_items(self, tenant: str, changes: Sequence[ItemChange]) -> int:
        """Store changes, each under a version of its own."""
        with self._database.write(durable=True) as connection:
            found = connection.execute("SELECT version FROM catalogue WHERE tenant = ?", (tenant,)).fetchone()
            first = found[0] if found else 0
            connection.executemany(
                "INSERT INTO item_change (tenant, item_id, version, deleted, available, attributes)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, item_id) DO UPDATE SET version = excluded.version,"
                " deleted = excluded.deleted, available = excluded.available,"
                " attributes = coalesce(excluded.attributes, attributes)",
                [_row(tenant, version, change) for version, change in enumerate(changes, start=first + 1)],
            )
            connection.execute(
                "INSERT INTO catalogue (tenant, version) VALUES (?, ?)"
                " ON CONFLICT (tenant) DO UPDATE SET version = excluded.version",
                (tenant, first + len(changes)),
            )
            count = "SELECT count(*) FROM item_change WHERE tenant = ?"
            if connection.execute(count, (tenant,)).fetchone()[0] > self._settings.max_changed_items:
                raise StoreFull(
                    f"more than {self._settings.max_changed_items:,} items changed; seal a bundle that has them"
                )
        return int(first + len(changes))

    def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
        """Return the newest state of every item changed after a version, by increasing version."""
        rows = self._database.read(
            "SELECT item_id, version, deleted, available, attributes FROM item_change"
            " WHERE tenant = ? AND version > ? ORDER BY version",
            (tenant, after),
        )
        with self._database.understood():
            return [
                ItemChange(item_id, version, bool(deleted), bool(available), None if text is None else json.loads(text))
                for item_id, version, deleted, available, text in rows
            ]

    def forget_changes(self, tenant: str, up_to: int) -> int:
        """Drop the changes up to a version, which a bundle now holds."""
        with self._database.write(durable=True) as connection:
            connection.execute(
                "UPDATE catalogue SET forgotten = max(forgotten, min(?, version)) WHERE tenant = ?", (up_to, tenant)
            )
            return connection.execute(
                "DELETE FROM item_change WHERE tenant = ? AND version <= ?", (tenant, up_to)
            ).rowcount

    def forgotten_changes(self, tenant: str) -> int:
        """Return the version up to which changes were dropped."""
        rows = self._database.read("SELECT forgotten FROM catalogue WHERE tenant = ?", (tenant,))
        return int(rows[0][0]) if rows else 0


def _row(tenant: str, version: int, change: ItemChange) -> tuple[str, str, int, bool, bool, str | None]:
    attributes = None if change.attributes is None else json_text(dict(change.attributes))
    return tenant, change.item_id, version, change.deleted, change.available, attributes
