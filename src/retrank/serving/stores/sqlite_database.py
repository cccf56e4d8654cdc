"""The SQLite file behind the embedded store: connections, transactions, and errors people can act on.

The file is in WAL mode: readers never wait, one writer at a time, and what any process has committed is in the next
read of every other. Commits are not flushed one by one (`synchronous=NORMAL`): after a power cut the file is whole but
may lack its last moments, which the event log still has. What nobody else remembers is written with `durable=True`.

A damaged file is not used. All of it is looked through when it is opened, and what SQLite or a reader of its rows finds
wrong later counts as well. From then on every call raises `StoreUnavailable`, until another file stands in its place or
the process starts anew.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from retrank.serving.stores.protocol import StoreUnavailable
from retrank.serving.stores.sqlite_schema import APPLICATION_ID, NEW, OURS, PAGE_BYTES, SCHEMA_VERSION, create, stamp
from retrank.serving.stores.sqlite_upkeep import Upkeep

_LOG = logging.getLogger(__name__)
_MAX_LOG_PAGES = 16_384
"""Of 2 KiB; a longer log is begun anew, for which writers wait a moment."""
_CACHE_KIB = 8_192
"""Pages that each connection may keep; they are read from the log again otherwise, which is slower than from a file."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_File = tuple[int, int]
"""Device and number of a file, whatever its name."""


class Database:
    """A pool of connections to one file; safe for threads, and for other processes that open the same file."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Name the file; it is opened, and made if it is missing, when first used."""
        self._path, self._timeout_s = path, timeout_s
        self._idle: deque[tuple[_File | None, sqlite3.Connection]] = deque()
        self._writing, self._opening = threading.Lock(), threading.Lock()
        self._looked_through: _File | None = None
        self._damaged: _Damaged | None = None
        self._upkeep = Upkeep(self._copy_log)
        self._closed = False

    def read(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one SELECT, which sees one moment.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        with self._connection() as connection:
            return connection.execute(statement, values).fetchall()

    def read_each(self, statement: str, many: Sequence[Sequence[Any]]) -> list[tuple[Any, ...] | None]:
        """Return the first row of one SELECT for each of many values, or None; all see one moment.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        with self._connection() as connection:
            connection.execute("BEGIN")
            found = [connection.execute(statement, values).fetchone() for values in many]
            connection.execute("COMMIT")
            return found

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Run the body as one transaction; with `durable` it is on the disk when this ends.

        Raises:
            StoreUnavailable: the file cannot be written, or others wrote for longer than the timeout.
        """
        with self._alone(), self._connection() as connection:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            before = connection.total_changes
            yield connection
            connection.execute("COMMIT")
            rows = connection.total_changes - before
        self._upkeep.wrote(rows)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Run a body that makes sense of rows; what it cannot read is damage.

        Raises:
            StoreUnavailable: a row does not say what this store writes.
        """
        try:
            yield
        except (ValueError, TypeError, LookupError) as error:
            raise StoreUnavailable(self._note_damage(_file(self._path), type(error).__name__)) from None

    def close(self) -> None:
        """Close idle connections now and the others when they come back."""
        self._closed = True
        self._upkeep.close()
        while self._idle:
            self._idle.pop()[1].close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only writer of this process: fairer than SQLite's own waiting."""
        if not self._writing.acquire(timeout=self._timeout_s):
            raise StoreUnavailable(f"state file {self._path}: still being written after {self._timeout_s} s; try again")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise StoreUnavailable(f"state file {self._path}: the store was closed")
        file = _file(self._path)
        damaged = self._damaged
        if damaged is not None and damaged.file == file:
            raise StoreUnavailable(damaged.said)
        connection = None
        try:
            connection = self._idle_one(file)
            if connection is None:
                connection = self._open()
                file = _file(self._path)
            yield connection
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise StoreUnavailable(self._explained(error, file)) from error
        finally:
            if connection is not None:
                self._put_back(file, connection)

    def _idle_one(self, file: _File | None) -> sqlite3.Connection | None:
        """Return an idle connection to the file that has the name now, and close those to one that had it before."""
        while self._idle:
            try:
                of_file, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if of_file == file:
                return connection
            connection.close()
        return None

    def _put_back(self, file: _File | None, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next one, unless it broke off inside a transaction."""
        if connection.in_transaction or self._closed:
            connection.close()
        else:
            self._idle.append((file, connection))

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare(connection)
            self._look_through(connection)
            connection.execute("PRAGMA wal_autocheckpoint=0")  # see `sqlite_upkeep`
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make an empty file ours, or check that a full one is."""
        found = stamp(connection)
        if found == NEW and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._switch_to_wal(connection)
            create(connection)
        if found != OURS:
            found = stamp(connection)  # made just now, or by somebody else between two looks
        if found != OURS:
            kind = f"of schema {found[1]}" if found[0] == APPLICATION_ID else "of another application"
            raise StoreUnavailable(
                f"state file {self._path}: a database {kind}, expected one of retrank's of schema {SCHEMA_VERSION}; "
                "name another file"
            )

    def _look_through(self, connection: sqlite3.Connection) -> None:
        """Read every page once per process, about a second per GB, before anything is believed."""
        file = _file(self._path)
        if file == self._looked_through:
            return
        (word,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if word != "ok":
            raise StoreUnavailable(self._note_damage(file, "SQLITE_CORRUPT, found when it was opened"))
        self._looked_through = file

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """Switch a file to WAL for good; when others do the same in that moment, SQLite does not wait, so this does."""
        give_up_at = time.monotonic() + self._timeout_s
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                    raise
            time.sleep(0.005)

    def _copy_log(self) -> None:
        """Copy the log into the file while others write; let writers wait only when it has become too long."""
        with self._connection() as connection:
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > _MAX_LOG_PAGES:
            with self._alone(), self._connection() as connection:
                connection.execute("PRAGMA wal_checkpoint(RESTART)")

    def _explained(self, error: sqlite3.Error, file: _File | None) -> str:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name.startswith(_DAMAGE) or "Could not decode" in str(error):
            return self._note_damage(file, f"{error}, {name}")
        hints = {
            "SQLITE_BUSY": f"others kept it locked for {self._timeout_s} s; try again, or raise timeout_s",
            "SQLITE_CANTOPEN": "check that its folder exists and that this user may write there",
            "SQLITE_READONLY": "let this user write to the file and its folder",
            "SQLITE_FULL": "the disk is full; make room",
        }
        hint = next((text for start, text in hints.items() if name.startswith(start)), "check the disk")
        return f"state file {self._path}: {error} ({name}); {hint}"

    def _note_damage(self, file: _File | None, what: str) -> str:
        """Leave a file alone from now on, and say so once."""
        said = (
            f"state file {self._path}: damaged, or not a SQLite database ({what}); move it away with its -wal and "
            "-shm, a new one is made at once, and bring its events back: retrank events replay"
        )
        with self._opening:
            before = self._damaged
            if file is not None and (before is None or before.file != file):
                self._damaged = _pinned(self._path, file, said)
                _LOG.critical("%s", said)
        return said


class _Damaged(NamedTuple):
    """A file that is left alone, what is said of it, and a descriptor that keeps its number from being used again."""

    file: _File
    pin: int
    said: str


def _pinned(path: Path, file: _File, said: str) -> _Damaged | None:
    """Hold on to a damaged file for as long as this process runs; None when another one has its name already.

    The descriptor is never closed: SQLite would lose its locks on the file.
    """
    try:
        pin = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(pin)
    return _Damaged(file, pin, said) if (found.st_dev, found.st_ino) == file else None


def _file(path: Path) -> _File | None:
    """Return which file has a name now; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
