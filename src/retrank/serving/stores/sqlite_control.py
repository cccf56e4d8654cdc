"""Shared control state in SQLite: documents and heartbeats."""

import json

from pydantic import JsonValue

from retrank.serving.stores.protocol import Document, json_text
from retrank.serving.stores.sqlite_database import Database


class SqliteControl:
    """The `Control` part of the store."""

    def __init__(self, database: Database) -> None:
        """Keep control state in a database."""
        self._database = database

    def document(self, name: str) -> Document:
        """Return a document; version 0 and None when there is none."""
        rows = self._database.read("SELECT version, value FROM document WHERE name = ?", (name,))
        return Document(rows[0][0], json.loads(rows[0][1])) if rows else Document(0, None)

    def write(self, name: str, value: JsonValue, expected: int) -> bool:
        """Replace a document if its version is still `expected`; on the disk when this returns."""
        text = json_text(value)
        with self._database.write(durable=True) as connection:
            if expected == 0:
                done = connection.execute(
                    "INSERT INTO document (name, version, value) VALUES (?, 1, ?) ON CONFLICT (name) DO NOTHING",
                    (name, text),
                )
            else:
                done = connection.execute(
                    "UPDATE document SET version = version + 1, value = ? WHERE name = ? AND version = ?",
                    (text, name, expected),
                )
            return done.rowcount == 1

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        """Say that a replica is alive, and forget those that are not."""
        text = json_text(status)
        with self._database.write() as connection:
            connection.execute("DELETE FROM beat WHERE until_s <= ?", (now,))
            connection.execute(
                "INSERT INTO beat (replica, until_s, status) VALUES (?, ?, ?)"
                " ON CONFLICT (replica) DO UPDATE SET until_s = excluded.until_s, status = excluded.status",
                (replica, now + ttl_s, text),
            )

    def beats(self, now: float) -> dict[str, JsonValue]:
        """Return the status of every replica that is alive."""
        rows = self._database.read("SELECT replica, status FROM beat WHERE until_s > ? ORDER BY replica", (now,))
        return {replica: json.loads(status) for replica, status in rows}
