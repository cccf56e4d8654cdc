"""The embedded state store: one SQLite file that every replica of a host opens."""

from pathlib import Path

from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_control import SqliteControl
from retrank.serving.stores.sqlite_database import Database
from retrank.serving.stores.sqlite_overlay import SqliteOverlay
from retrank.serving.stores.sqlite_profiles import SqliteProfiles


class SqliteStore(SqliteProfiles, SqliteOverlay, SqliteControl):
    """A `StateStore` in a file; opened when first used, safe for threads and processes of one host."""

    def __init__(self, path: Path, settings: StateSettings) -> None:
        """Name the file; its folder must exist."""
        database = Database(path, settings.timeout_s)
        SqliteProfiles.__init__(self, database, settings)
        SqliteOverlay.__init__(self, database, settings)
        SqliteControl.__init__(self, database)

    def ping(self) -> None:
        """Return when the file can be read and written."""
        with self._database.write():
            pass

    def close(self) -> None:
        """Let go of connections."""
        self._database.close()
