"""The tables of the embedded store, and the stamp by which a file is known to be one."""

import sqlite3

APPLICATION_ID = 0x52_54_52_4B  # "RTRK"
SCHEMA_VERSION = 2
PAGE_BYTES = 2_048
"""Of new files. What a transaction writes are whole pages, a few rows changed in each, twice: half the page is half of
what the disk must take. Smaller ones cost more processor time, and long ids would not fit."""
NEW, OURS = (0, 0), (APPLICATION_ID, SCHEMA_VERSION)
EXPIRES, SESSIONS, IDS, EVENTS, SEEN = range(5)
"""Names of what a holder has, a person or a session, in the order they lie in the file. The first is a single row: when
the holder may go, in microseconds. The others are sets."""

SCHEMA = (
    # One tree, so that all of a holder (16 bytes, made of its tag) lies on a page or two: each page touched is written
    # to the log, which costs more than anything else.
    "CREATE TABLE entry (holder BLOB NOT NULL, name INTEGER NOT NULL, member TEXT NOT NULL, score INTEGER NOT NULL,"
    " PRIMARY KEY (holder, name, member)) WITHOUT ROWID",
    f"CREATE INDEX entry_expiry ON entry (score) WHERE name = {EXPIRES}",
    "CREATE TABLE erased (n INTEGER PRIMARY KEY AUTOINCREMENT, tag TEXT NOT NULL)",
    "CREATE TABLE catalogue (tenant TEXT PRIMARY KEY, version INTEGER NOT NULL, forgotten INTEGER NOT NULL DEFAULT 0)"
    " WITHOUT ROWID",
    "CREATE TABLE item_change (tenant TEXT NOT NULL, item_id TEXT NOT NULL, version INTEGER NOT NULL,"
    " deleted INTEGER NOT NULL, available INTEGER NOT NULL, attributes TEXT,"
    " PRIMARY KEY (tenant, item_id)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX item_change_order ON item_change (tenant, version)",
    "CREATE TABLE document (name TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL, until_s REAL)"
    " WITHOUT ROWID",
    "CREATE INDEX document_expiry ON document (until_s) WHERE until_s IS NOT NULL",
    "CREATE TABLE beat (replica TEXT PRIMARY KEY, until_s REAL NOT NULL, status TEXT NOT NULL) WITHOUT ROWID",
)


def stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return whose file it is, and of which schema."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return owner, version


def create(connection: sqlite3.Connection) -> None:
    """Make an empty file ours, unless another process was faster."""
    connection.execute("BEGIN IMMEDIATE")
    if stamp(connection) == NEW:
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")
