"""Writes a store into a staged directory: sorts the spooled columns one at a time and hashes what it writes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrank.data.ordering import order_by_user, order_within_users, user_offsets
from retrank.data.repeats import count_repeats
from retrank.data.spool import Spool
from retrank.data.store import (
    ITEMS,
    OFFSETS,
    STORE_FORMAT,
    STORE_JSON,
    TIE_POLICY,
    TIMES,
    USERS,
    VALUES,
    StoreFacts,
)

USER_ROWS = "user_rows"
_BLOCK = 1 << 20
_HASHED_ROWS = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


@dataclass(frozen=True)
class Tables:
    """What is known beside the events: ids, item attributes and the text behind codes.

    Attributes:
        users: U rows, `user_id` first; visitors last.
        items: N rows, `item_id` first.
        actions: names of the action codes.
        categories: per text context column, the text behind its codes.
        num_visitors: how many of the U are visitors V. In the spool, visitor v (1..V) has the row -v, as long as nobody
            knows how many users come before the visitors.
    """

    users: pa.Table
    items: pa.Table
    actions: list[str]
    categories: Mapping[str, list[str]]
    num_visitors: int = 0


@dataclass(frozen=True)
class Provenance:
    """Where a store comes from."""

    name: str
    report: Mapping[str, Any]
    fingerprint: str


def write_store(spool: Spool, tables: Tables, provenance: Provenance, staged: Path) -> StoreFacts:
    """Write every file of a store into `staged`.

    Args:
        spool: `user_rows` and the columns of the store under their file names, in source order.
        tables: ids and attributes.
        provenance: goes into `store.json`.
        staged: an empty directory.

    Returns:
        The facts written to `store.json`; `facts.data_hash` is SHA-256 over columns, ids and attributes.
    """
    digest = hashlib.sha256()
    first_at, last_at = _write_columns(spool, tables, staged, digest)
    context = _write_tables(tables, spool.columns, staged, digest)
    report = dict(provenance.report)
    if TIMES in spool.columns:
        report["repeats"] = _repeats(spool.columns, staged)
    facts = StoreFacts(
        format_version=STORE_FORMAT,
        name=provenance.name,
        data_hash=digest.hexdigest(),
        num_users=tables.users.num_rows,
        num_visitors=tables.num_visitors,
        num_items=tables.items.num_rows,
        num_events=spool.num_events,
        first_event_at=first_at,
        last_event_at=last_at,
        tie_policy=TIE_POLICY,
        has_times=TIMES in spool.columns,
        has_values=VALUES in spool.columns,
        actions=tables.actions,
        context=context,
        report=report,
        fingerprint=provenance.fingerprint,
    )
    (staged / STORE_JSON).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return facts


def _write_columns(
    spool: Spool, tables: Tables, staged: Path, digest: _Hash
) -> tuple[datetime | None, datetime | None]:
    user_rows, num_users = spool.take(USER_ROWS), tables.users.num_rows
    if tables.num_visitors:
        digest.update(f"visitors {tables.num_visitors}\n".encode())
        user_rows = np.where(user_rows < 0, num_users - tables.num_visitors - user_rows, user_rows)
    offsets = user_offsets(user_rows, num_users)
    order = order_by_user(user_rows)
    del user_rows
    first_at = last_at = None
    if TIMES in spool.columns:
        times = spool.take(TIMES)[order]
        order_within_users(order, times, offsets)
        first_at, last_at = _instant(times.min()), _instant(times.max())
        _write_column(staged / TIMES, times, None, digest)
        del times
    _write_column(staged / OFFSETS, offsets, None, digest)
    for name in sorted(set(spool.columns) - {USER_ROWS, TIMES}):
        _write_column(staged / name, spool.take(name), order, digest)
    return first_at, last_at


def _repeats(columns: list[str], staged: Path) -> int:
    """Count among the columns as they were written; without times an event that comes twice may be two."""
    offsets, times = (np.load(staged / name, mmap_mode="r") for name in (OFFSETS, TIMES))
    others = [np.load(staged / name, mmap_mode="r") for name in columns if name not in (USER_ROWS, TIMES)]
    return count_repeats(offsets, times, others)


def _write_column(path: Path, column: NDArray[Any], order: NDArray[np.uint32] | None, digest: _Hash) -> None:
    """Write `column[order]` as .npy in blocks, so that no second copy of the column is ever in memory."""
    digest.update(f"{path.name} {column.dtype.str} {len(column)}\n".encode())
    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(column.dtype), "fortran_order": False, "shape": column.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(column), _BLOCK):
            stop = start + _BLOCK
            block = np.ascontiguousarray(column[start:stop] if order is None else column[order[start:stop]])
            raw = block.view(np.uint8).data
            digest.update(raw)
            stream.write(raw)


def _write_tables(tables: Tables, columns: list[str], staged: Path, digest: _Hash) -> dict[str, str]:
    """Write ids, attributes and categories; return the kind of each context column."""
    for name, table in ((USERS, tables.users), (ITEMS, tables.items)):
        _write_table(staged / name, table, digest)
    digest.update(json.dumps(tables.actions).encode())
    context = {}
    for column in columns:
        if column.startswith("context_"):
            context[column.removeprefix("context_").removesuffix(".npy")] = "number"
    for name, categories in sorted(tables.categories.items()):
        context[name] = "category"
        _write_table(staged / f"context_{name}.parquet", pa.table({"value": pa.array(categories, pa.string())}), digest)
    return context


def _write_table(path: Path, table: pa.Table, digest: _Hash) -> None:
    """Write Parquet; hash the values and not the file, whose bytes change with the version of the writer."""
    for name in table.column_names:
        digest.update(f"{path.name} {name} {table.schema.field(name).type}\n".encode())
        for start in range(0, table.num_rows, _HASHED_ROWS):
            values = table.column(name).slice(start, _HASHED_ROWS).to_pylist()
            digest.update(json.dumps(values, ensure_ascii=False, default=str).encode())
    pq.write_table(table, path, compression="zstd")


def _instant(microseconds: np.int64) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))
