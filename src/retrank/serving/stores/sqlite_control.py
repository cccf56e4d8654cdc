"""Shared control state in SQLite: documents and heartbeats."""

import json

from pydantic import JsonValue

from retrank.serving.stores.protocol import Document, json_text
from retrank.serving.stores.sqlite_database import Database

_EXPIRED_AT_ONCE = 100


class SqliteControl:
    """The `Control` part of the store."""

    def __init__(self, database: Database) -> None:
        """Keep control state in a database."""
        self._database = database

    def document(self, name: str) -> Document:
        """Return a document; version 0 and None when there is none."""
        rows = self._database.read("SELECT version, value FROM document WHERE name = ?", (name,))
        with self._database.understood():
            return Document(rows[0][0], json.loads(rows[0][1])) if rows else Document(0, None)

    def write(self, name: str, value: JsonValue, expected: int, until: float | None = None) -> bool:
        """Replace a document if its version is still `expected`; flushed to the disk, unless it ends."""
        text = json_text(value)
        with self._database.write(durable=until is None) as connection:
            if expected == 0:
                done = connection.execute(
                    "INSERT INTO document (name, version, value, until_s) VALUES (?, 1, ?, ?)"
                    " ON CONFLICT (name) DO NOTHING",
                    (name, text, until),
                )
            else:
                done = connection.execute(
                    "UPDATE document SET version = version + 1, value = ?, until_s = ? WHERE name = ? AND version = ?",
                    (text, until, name, expected),
                )
            return done.rowcount == 1

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        """Say that a replica is alive, and forget those that are not, and some documents that have expired."""
        text = json_text(status)
        with self._database.write() as connection:
            connection.execute("DELETE FROM beat WHERE until_s <= ?", (now,))
            expired = "SELECT name FROM document WHERE until_s IS NOT NULL AND until_s <= ? LIMIT ?"
            connection.execute(f"DELETE FROM document WHERE name IN ({expired})", (now, _EXPIRED_AT_ONCE))
            connection.execute(
                "INSERT INTO beat (replica, until_s, status) VALUES (?, ?, ?)"
                " ON CONFLICT (replica) DO UPDATE SET until_s = excluded.until_s, status = excluded.status",
                (replica, now + ttl_s, text),
            )

    def beats(self, now: float) -> dict[str, JsonValue]:
        """Return the status of every replica that is alive."""
        rows = self._database.read("SELECT replica, status FROM beat WHERE until_s > ? ORDER BY replica", (now,))
        with self._database.understood():
            return {replica: json.loads(status) for replica, status in rows}
