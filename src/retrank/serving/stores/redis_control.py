"""Shared control state in Redis: a hash per document, and heartbeats by when they end.

Documents that end do so by the clock of the server.
"""

import json

from pydantic import JsonValue

from retrank.serving.stores.protocol import Document, json_text
from retrank.serving.stores.redis_connection import Call, Connection
from retrank.serving.stores.redis_scripts import BEAT, BEATS, WRITE
from retrank.serving.stores.settings import StateSettings


class RedisControl:
    """The `Control` part of the store."""

    def __init__(self, connection: Connection, settings: StateSettings) -> None:
        """Keep control state behind a connection."""
        self._connection, self._settings = connection, settings

    def document(self, name: str) -> Document:
        """Return a document; version 0 and None when there is none."""
        version, value = self._connection.run_one(Call("HMGET", (self._document_key(name),), ("version", "value")))
        return Document(0, None) if version is None else Document(int(version), json.loads(value))

    def write(self, name: str, value: JsonValue, expected: int, until: float | None = None) -> bool:
        """Replace a document if its version is still `expected`; tell whether it was."""
        until_ms = "" if until is None else round(until * 1_000)
        call = Call(WRITE, (self._document_key(name),), (expected, json_text(value), until_ms))
        return bool(self._connection.run_one(call) == 1)

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        """Say that a replica is alive, and forget those that are not."""
        arguments = (repr(now), repr(now + ttl_s), replica, json_text(status))
        self._connection.run_one(Call(BEAT, self._beat_keys(), arguments))

    def beats(self, now: float) -> dict[str, JsonValue]:
        """Return the status of every replica that is alive."""
        rows = self._connection.run_one(Call(BEATS, self._beat_keys(), (repr(now),)))
        return {replica: json.loads(status) for replica, status in sorted(rows)}

    def _document_key(self, name: str) -> str:
        return f"{self._settings.key_prefix}:document:{name}"

    def _beat_keys(self) -> tuple[str, str]:
        prefix = f"{self._settings.key_prefix}:{{beats}}"
        return f"{prefix}:until", f"{prefix}:status"
