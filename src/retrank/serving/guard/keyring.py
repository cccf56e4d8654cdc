"""The keys in force: read from a file, and read again when it changes, so that revoking needs no restart."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from retrank.contract.errors import ConfigError
from retrank.serving.guard.caller import Caller
from retrank.serving.guard.keys import KeyRecord, match, read_key_file

LOOK_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class Keyring:
    """Tells callers by their keys."""

    def __init__(self, path: Path, *, pepper: bytes, clock: Callable[[], float]) -> None:
        """Read the file.

        Args:
            path: file written by `retrank keys`.
            pepper: key of the hashes.
            clock: monotonic seconds.

        Raises:
            ConfigError: the file cannot be used.
        """
        self._path = path
        self._pepper = pepper
        self._clock = clock
        self._looked_at = clock()
        self._version = _version(path)
        self._records = self._read()

    def caller(self, token: str) -> Caller | None:
        """Return who holds a token; None when nobody does."""
        self._refresh()
        record = match(token, self._records, self._pepper)
        return Caller(record.tenant, record.id, record.scopes) if record else None

    def _read(self) -> dict[str, KeyRecord]:
        return {record.id: record for record in read_key_file(self._path).keys}

    def _refresh(self) -> None:
        """Look at the file once a second; one that cannot be used leaves the keys as they were, and is logged."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._records = self._read()
        except ConfigError as error:
            _log.error("keys stay as they were: %s", error)


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
