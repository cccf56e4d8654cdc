"""The SQLite file behind the embedded store: connections, schema, transactions, and errors people can act on.

The file is in WAL mode: readers never wait, one writer at a time, and what any process has committed is in the next
read of every other. Commits are not flushed one by one (`synchronous=NORMAL`): after a power cut the file is whole but
may lack its last moments, which the event log still has. What nobody else remembers is written with `durable=True`.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrank.serving.stores.protocol import StoreUnavailable

APPLICATION_ID = 0x52_54_52_4B  # "RTRK"
SCHEMA_VERSION = 1
_NEW, _OURS = (0, 0), (APPLICATION_ID, SCHEMA_VERSION)
_SCHEMA = (
    # A person or a session, by tag. Ids are never used twice, so that what is left of one never becomes another's.
    "CREATE TABLE holder (id INTEGER PRIMARY KEY AUTOINCREMENT, tag TEXT NOT NULL UNIQUE, expires_us INTEGER NOT NULL)",
    "CREATE INDEX holder_expiry ON holder (expires_us)",
    "CREATE TABLE entry (holder INTEGER NOT NULL, name TEXT NOT NULL, member TEXT NOT NULL, score INTEGER NOT NULL,"
    " PRIMARY KEY (holder, name, member)) WITHOUT ROWID",
    "CREATE INDEX entry_order ON entry (holder, name, score, member)",
    "CREATE TABLE catalogue (tenant TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE item_change (tenant TEXT NOT NULL, item_id TEXT NOT NULL, version INTEGER NOT NULL,"
    " deleted INTEGER NOT NULL, available INTEGER NOT NULL, attributes TEXT,"
    " PRIMARY KEY (tenant, item_id)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX item_change_order ON item_change (tenant, version)",
    "CREATE TABLE document (name TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE beat (replica TEXT PRIMARY KEY, until_s REAL NOT NULL, status TEXT NOT NULL) WITHOUT ROWID",
)


class Database:
    """A pool of connections to one file; safe for threads, and for other processes that open the same file."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Name the file; it is opened, and made if it is missing, when first used."""
        self._path, self._timeout_s = path, timeout_s
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing = threading.Lock()
        self._closed = False

    def read(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one SELECT, which sees one moment.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        with self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Run the body as one transaction; with `durable` it is on the disk when this ends.

        Raises:
            StoreUnavailable: the file cannot be written, or others wrote for longer than the timeout.
        """
        if not self._writing.acquire(timeout=self._timeout_s):  # fairer than SQLite's own waiting
            raise StoreUnavailable(f"state file {self._path}: still being written after {self._timeout_s} s; try again")
        try:
            with self._connection() as connection:
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close idle connections now and the others when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise StoreUnavailable(f"state file {self._path}: the store was closed")
        connection = None
        try:
            connection = self._idle.pop() if self._idle else self._open()
            yield connection
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise StoreUnavailable(self._explained(error)) from error
        finally:
            if connection is not None:
                self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next one, unless it broke off inside a transaction."""
        if connection.in_transaction or self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make an empty file ours, or check that a full one is."""
        stamp = _stamp(connection)
        if stamp == _NEW and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._switch_to_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            if _stamp(connection) == _NEW:  # nobody else was faster
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        if stamp != _OURS:
            stamp = _stamp(connection)  # somebody else may have made it ours between two looks
        if stamp != _OURS:
            kind = f"of schema {stamp[1]}" if stamp[0] == APPLICATION_ID else "of another application"
            raise StoreUnavailable(
                f"state file {self._path}: a database {kind}, expected one of retrank's of schema {SCHEMA_VERSION}; "
                "name another file"
            )

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """Switch a file to WAL for good; when others do the same in that moment, SQLite does not wait, so this does."""
        give_up_at = time.monotonic() + self._timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                    raise
            time.sleep(0.005)

    def _explained(self, error: sqlite3.Error) -> str:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        hints = {
            "SQLITE_BUSY": f"others kept it locked for {self._timeout_s} s; try again, or raise timeout_s",
            "SQLITE_CANTOPEN": "check that its folder exists and that this user may write there",
            "SQLITE_READONLY": "let this user write to the file and its folder",
            "SQLITE_NOTADB": "it is not a SQLite database; name another file",
            "SQLITE_CORRUPT": "it is damaged; move it away, a new one is made, and replay the event log",
            "SQLITE_FULL": "the disk is full; make room",
        }
        hint = next((text for start, text in hints.items() if name.startswith(start)), "check the disk")
        return f"state file {self._path}: {error} ({name}); {hint}"


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return owner, version
