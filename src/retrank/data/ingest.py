"""From any source to a columnar store: idempotent, atomic, and loud about the rows it did not take."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray
from tqdm import tqdm

from retrank.config import instantiate
from retrank.contract.actions import Actions, action_facts, told, type_by_name
from retrank.contract.api import MAX_ID_LENGTH
from retrank.contract.errors import ConfigError, DataError, SourceError
from retrank.contract.files import publish, sha256_of, staging
from retrank.data.item_attributes import AttributeCollector, count_met, item_table, user_table
from retrank.data.progress import hidden
from retrank.data.readers.items_file import UsersFile
from retrank.data.readers.protocol import ACTION, ATTRIBUTE, CONTEXT_PREFIX, ITEM, TIME, USER, VALUE, VISITOR, Reader
from retrank.data.report import RowReport
from retrank.data.spool import Spool
from retrank.data.store import (
    ACTIONS,
    ITEM_ROWS,
    STORE_FORMAT,
    STORE_JSON,
    TIMES,
    VALUES,
    EventStore,
    read_fingerprint,
    report_lines,
)
from retrank.data.store_writer import USER_ROWS, Provenance, Tables, write_store
from retrank.data.vocab_builder import VocabBuilder

_LOCK = ".lock"
_EPOCH_YEAR = 1970
MAX_ACTIONS = 1_000


def run(cfg: Mapping[str, Any]) -> EventStore:
    """Run `retrank ingest`: build the reader that `cfg["data"]` describes and ingest it into `cfg["out"]`."""
    reader: Reader = instantiate(cfg["data"])
    out = Path(cfg["out"])
    before = read_fingerprint(out)
    store = ingest(
        reader,
        out,
        max_bad_share=float(cfg["max_bad_share"]),
        items_without_events=bool(cfg["items_without_events"]),
        progress=bool(cfg["progress"]),
        users=_users(cfg.get("users")),
    )
    state = "up to date" if before == store.facts.fingerprint else "written"
    facts = store.facts
    print(f"{out}: {state}, data hash {facts.data_hash[:16]}")
    without = store.num_items_without_events
    joined = f" ({without:,} without events)" if without else ""
    unnamed = f" ({facts.num_visitors:,} visitors without an id)" if facts.num_visitors else ""
    print(f"{facts.num_users:,} users{unnamed}, {facts.num_items:,} items{joined}, {facts.num_events:,} events", end="")
    print(f", {facts.first_event_at:%Y-%m-%d} to {facts.last_event_at:%Y-%m-%d}" if facts.first_event_at else "")
    if counts := store.action_counts():
        print("actions: " + ", ".join(f"{name or 'none given'} {count:,}" for name, count in counts.items() if count))
        print(
            "\n".join(f"  {line}" for line in told(Actions(action_facts(facts.actions, store.sequences.actions, {}))))
        )
    print("\n".join(report_lines(facts.report)))
    if facts.last_event_at and facts.last_event_at.year == _EPOCH_YEAR:
        print("warning: every event is in 1970; is the time unit of the source (data.columns.time_unit) right?")
    return store


def _users(settings: Mapping[str, Any] | None) -> UsersFile | None:
    """Return the file of attributes of users, if one is configured."""
    if not settings:
        return None
    if "_target_" not in settings:
        raise ConfigError(f"users has {sorted(settings)} and no kind of source; name it too: users=file")
    users: UsersFile = instantiate(settings)
    return users


def ingest(
    reader: Reader,
    out: Path,
    *,
    max_bad_share: float = 0.01,
    items_without_events: bool = True,
    progress: bool = False,
    users: UsersFile | None = None,
) -> EventStore:
    """Read a source into the store at `out` and open it; do nothing when the store is up to date.

    Args:
        reader: the source.
        out: root of the store; a killed ingest leaves what was there before, or the new store, never a mixture.
        max_bad_share: share of bad rows, 0..1, above which the ingest fails; of events, item and user files alike.
        items_without_events: items that only the source's item table knows join the catalogue, after those with
            events: what is in the shop can be found and, by a model that reads content, recommended.
        progress: show a progress bar on standard error.
        users: attributes of users; of those without events nothing is kept.

    Raises:
        SourceError: a source file is missing or unreadable, or holds no event; or what is told of items or users apart
            is about none of those with events.
        BadRowsError: too many bad rows.
        DataError: the store cannot be written (disk full), or another ingest is writing it.
    """
    if not 0 <= max_bad_share <= 1:
        raise ConfigError(f"max_bad_share is {max_bad_share}; expected a share in 0..1")
    fingerprint = _fingerprint(reader, f"{max_bad_share} {items_without_events}", users)
    if read_fingerprint(out) == fingerprint:
        return EventStore.open(out)
    try:
        with _only_writer(out), staging(out) as staged, staging(out) as spooled, Spool(spooled) as spool:
            vocabs, report = _read(reader, spool, max_bad_share, progress=progress)
            of_items, of_users = RowReport(), RowReport()
            described, known = reader.item_table(of_items), users.read(of_users) if users else None
            for rows in (of_items, of_users):
                rows.check(max_bad_share)
            met = _met(vocabs, described, known)
            tables = _tables(vocabs, described, known, items_without_events=items_without_events)
            account = _account(report, {"items": of_items, "users": of_users}, met, tables.actions)
            facts = write_store(spool, tables, Provenance(reader.name, account, fingerprint), staged)
            _publish(staged, out, facts.data_hash)
    except OSError as error:
        raise DataError(f"{out}: cannot write the store: {error}; free space or rights, nothing was changed") from error
    return EventStore.open(out)


def _account(
    report: RowReport, apart: Mapping[str, RowReport], met: Mapping[str, int], actions: list[str]
) -> dict[str, Any]:
    """Return what the store keeps of its making; `event_types` is what export seals of an action unless it is told.

    `apart` tells of attributes in files of their own, by name, where there are any; `met` of whom of the events.
    """
    beside = {name: rows.as_dict() | {"met": met[name]} for name, rows in apart.items() if rows.rows}
    account = report.as_dict() | beside
    return account | ({"event_types": {name: type_by_name(name) for name in actions}} if actions else {})


@dataclass
class _Vocabs:
    users: VocabBuilder = field(default_factory=lambda: VocabBuilder("user", MAX_ID_LENGTH))
    visitors: VocabBuilder = field(default_factory=lambda: VocabBuilder("visitor"))
    items: VocabBuilder = field(default_factory=lambda: VocabBuilder("item", MAX_ID_LENGTH))
    actions: VocabBuilder = field(default_factory=lambda: VocabBuilder("action"))
    categories: dict[str, VocabBuilder] = field(default_factory=dict)
    attributes: AttributeCollector = field(default_factory=AttributeCollector)


def _read(reader: Reader, spool: Spool, max_bad_share: float, *, progress: bool) -> tuple[_Vocabs, RowReport]:
    """Spool every accepted event as numbers; return ids and attributes."""
    report, vocabs = RowReport(), _Vocabs()
    with tqdm(
        total=reader.expected_rows(), unit=" rows", unit_scale=True, desc="ingest", disable=hidden(progress)
    ) as bar:
        for batch in reader.batches(report):
            if batch.num_rows:
                spool.append(_encode(batch, vocabs))
            bar.update(report.rows - bar.n)
    pa.default_memory_pool().release_unused()
    report.check(max_bad_share)
    if len(vocabs.actions.ids()) > MAX_ACTIONS:
        raise SourceError(
            f"{reader.name}: {len(vocabs.actions.ids()):,} different actions such as {vocabs.actions.ids()[0]!r}; "
            f"expected at most {MAX_ACTIONS:,} words like view or purchase, check data.columns.action, and "
            "data.columns.action_name: with null all custom events are called custom"
        )
    if not spool.num_events:
        raise SourceError(
            f"{reader.name}: no event was accepted out of {report.rows:,} rows read {report.filtered or ''}; "
            "expected at least one, check path and column mapping"
        )
    return vocabs, report


def _met(vocabs: _Vocabs, described: pa.Table | None, known: pa.Table | None) -> dict[str, int]:
    """Return of how many items and users of the events something is told in files of their own."""
    items = {} if described is None else {"items": count_met(vocabs.items.ids(), described, "item_id", "the items")}
    users = {} if known is None else {"users": count_met(vocabs.users.ids(), known, "user_id", "users=file")}
    return items | users


def _tables(
    vocabs: _Vocabs, described: pa.Table | None, known: pa.Table | None, *, items_without_events: bool
) -> Tables:
    """Return ids and attributes; `described` items may join the catalogue, those with events keep the first rows.

    Of `known` users only those with events are kept.
    """
    if described is not None and items_without_events:
        vocabs.items.encode(described.column("item_id").combine_chunks())
    items = item_table(vocabs.items.ids(), vocabs.attributes, described)
    categories = {name: builder.ids() for name, builder in vocabs.categories.items()}
    users = user_table(vocabs.users.ids(), vocabs.visitors.ids(), known)
    return Tables(users, items, vocabs.actions.ids(), categories, num_visitors=len(vocabs.visitors))


def _encode(batch: pa.RecordBatch, vocabs: _Vocabs) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        USER_ROWS: _people(batch, vocabs),
        ITEM_ROWS: vocabs.items.encode(batch.column(ITEM)),
    }
    attributes = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name == TIME:
            columns[TIMES] = column.to_numpy()
        elif name == VALUE:
            columns[VALUES] = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
        elif name == ACTION:
            columns[ACTIONS] = (vocabs.actions.encode(column) - 1).astype(np.int16)
        elif name.startswith(CONTEXT_PREFIX):
            columns[f"{name}.npy"] = _encode_context(name.removeprefix(CONTEXT_PREFIX), column, vocabs)
        elif name.startswith(ATTRIBUTE):
            attributes[name.removeprefix(ATTRIBUTE)] = column
    if attributes:
        vocabs.attributes.add(batch.column(ITEM), attributes)
    return columns


def _people(batch: pa.RecordBatch, vocabs: _Vocabs) -> NDArray[np.int32]:
    """Return `[n]` who it was: rows of users, and below zero those of visitors (`store_writer.Tables`)."""
    rows = vocabs.users.encode(batch.column(USER))
    if VISITOR in batch.schema.names:
        unnamed = np.flatnonzero(rows == 0)
        rows[unnamed] = -vocabs.visitors.encode(batch.column(VISITOR).take(pa.array(unnamed)))
    return rows


def _encode_context(name: str, column: pa.Array, vocabs: _Vocabs) -> NDArray[Any]:
    """Return numbers as they are (null becomes NaN) and text as codes from 0 (null becomes -1)."""
    if pat.is_string(column.type) or pat.is_large_string(column.type):
        return vocabs.categories.setdefault(name, VocabBuilder(name)).encode(column) - np.int32(1)
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers


def _fingerprint(reader: Reader, settings: str, users: UsersFile | None) -> str:
    told = f" {users!r}" if users else ""
    digest = hashlib.sha256(f"{STORE_FORMAT} {settings} {type(reader).__qualname__} {reader!r}{told}\n".encode())
    for path in [*reader.sources(), *(users.sources() if users else ())]:
        try:
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}; check its rights") from error
    return digest.hexdigest()


@contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """Hold the store's lock, and clear away what a killed ingest left behind; one that fails leaves no empty store."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(lock.fileno()).st_nlink:  # it belonged to an ingest that has just failed
                raise BlockingIOError
        except BlockingIOError as error:
            raise DataError(
                f"{out}: another ingest is writing this store; wait for it or choose another out="
            ) from error
        for left_over in out.glob(".staging-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        try:
            yield
        except BaseException:
            if [path.name for path in out.iterdir()] == [_LOCK]:
                (out / _LOCK).unlink()
                out.rmdir()
            raise


def _publish(staged: Path, out: Path, data_hash: str) -> None:
    """Publish; where equal data is already there only its facts are renewed, and a damaged copy gives way."""
    existing = out / data_hash
    if existing.exists():
        try:
            EventStore.open(existing)
            (staged / STORE_JSON).replace(existing / STORE_JSON)
        except SourceError:
            shutil.rmtree(existing)
    publish(staged, out, data_hash)
