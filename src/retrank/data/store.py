"""The columnar event store, opened read-only and memory-mapped. Written by `store_writer`, used by training and export.

    <root>/current -> <root>/<data_hash>/
        store.json            facts: what is inside and which rows were left out (see StoreFacts)
        offsets.npy           [U + 1] int64
        item_rows.npy         [E] int32, values 1..num_items
        times.npy             [E] int64 microseconds since 1970 UTC; absent when the source has no time
        values.npy            [E] float32; absent when the source has no value
        actions.npy           [E] int16, index into facts.actions, -1 = missing; absent when the source has no action
        context_<name>.npy    [E] numbers, or int32 codes into context_<name>.parquet when the source holds text
        users.parquet         row i is user row i + 1: user_id, then attributes, all text; visitors stand last
        items.parquet         row i is item row i + 1: item_id, then attributes

Events are sorted by user row, then time, then original order: ties keep the order of the source (the tie policy).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from retrank.contract.context import ContextSpec
from retrank.contract.errors import SourceError, said_of
from retrank.contract.files import current
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.data.arrow_texts import read_vocab

STORE_FORMAT = 1
_SHOWN_EXAMPLES = 2
STORE_JSON = "store.json"
OFFSETS = "offsets.npy"
ITEM_ROWS = "item_rows.npy"
TIMES = "times.npy"
VALUES = "values.npy"
ACTIONS = "actions.npy"
USERS = "users.parquet"
ITEMS = "items.parquet"
TIE_POLICY = "user, then time, then original order"


class StoreFacts(BaseModel):
    """The content of `store.json`.

    Attributes:
        num_users: all people, visitors included.
        num_visitors: those of them without a user id, known by what the source has instead (a cookie, a session).
        context: names of the context columns, each with "number" or "category".
        report: rows read, accepted, left out by rule and refused as bad, with first examples (see RowReport); under
            `items` and `users` the same for attributes in a file of their own, with `met`: items or users with events
            that they are about; and of sources with times `repeats`: events that equal another in every column.
        fingerprint: SHA-256 over source files and settings; equal means a second ingest has nothing to do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    name: str
    data_hash: str
    num_users: int
    num_visitors: int = 0
    num_items: int
    num_events: int
    first_event_at: datetime | None
    last_event_at: datetime | None
    tie_policy: str
    has_times: bool
    has_values: bool
    actions: list[str]
    context: dict[str, str]
    report: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class EventStore:
    """An opened store; columns are memory-mapped, so opening is quick and processes share pages.

    `context_spec` says what the rows of `sequences.contexts` mean; None where nothing reads them.
    """

    directory: Path
    facts: StoreFacts
    sequences: Sequences
    context_spec: ContextSpec | None = None

    @classmethod
    def open(cls, path: Path | str) -> "EventStore":
        """Open the current version below a store root, or one version named directly.

        Raises:
            SourceError: nothing is there, a file is missing or damaged, or the format is another one.
        """
        directory = current(Path(path).resolve())
        facts = _read_facts(directory)
        num_events = facts.num_events
        offsets = _map(directory / OFFSETS, "int64", facts.num_users + 1)
        item_rows = _map(directory / ITEM_ROWS, "int32", num_events)
        times = _map(directory / TIMES, "int64", num_events) if facts.has_times else None
        if offsets[0] != 0 or offsets[-1] != num_events:
            raise SourceError(
                f"{directory / OFFSETS}: runs {offsets[0]} to {offsets[-1]}, expected 0 to {num_events}; ingest again"
            )
        for name, rows in ((USERS, facts.num_users), (ITEMS, facts.num_items)):
            _check_rows(directory / name, rows)
        actions = _map(directory / ACTIONS, "int16", num_events) + np.int16(1) if facts.actions else None
        return cls(directory, facts, Sequences(item_rows, offsets, times, actions=actions))

    @property
    def num_items(self) -> int:
        """Number of items N; item rows are 1..N."""
        return self.facts.num_items

    @cached_property
    def num_items_without_events(self) -> int:
        """Number of items that only the item table knows; they have the last rows."""
        return self.num_items - int(self.sequences.item_rows.max(initial=0))

    @property
    def num_users(self) -> int:
        """Number of users U, visitors included; user rows are 1..U."""
        return self.facts.num_users

    @property
    def num_named(self) -> int:
        """Number of users with an id that a request can name; they have the first rows, visitors those behind them."""
        return self.facts.num_users - self.facts.num_visitors

    @cached_property
    def users(self) -> Vocab:
        """Ids of the users who have one, and their rows."""
        return read_vocab(self.directory / USERS, "user_id", slice(0, self.num_named))

    @cached_property
    def visitors(self) -> Vocab:
        """What visitors are known by; row v here is user row `num_named` + v."""
        return read_vocab(self.directory / USERS, "user_id", slice(self.num_named, self.num_users))

    @cached_property
    def items(self) -> Vocab:
        """Item ids and their rows."""
        return read_vocab(self.directory / ITEMS, "item_id")

    @cached_property
    def item_table(self) -> pa.Table:
        """Table of N rows: item_id, then attributes such as title and price; row i is item row i + 1."""
        return pq.read_table(self.directory / ITEMS)

    @cached_property
    def user_table(self) -> pa.Table:
        """Table of U rows: user_id, then attributes, all text; row i is user row i + 1."""
        return pq.read_table(self.directory / USERS)

    @cached_property
    def values(self) -> NDArray[np.float32] | None:
        """Value of each event (money, rating, ...), `[E]` float32, memory-mapped; None when the source has none."""
        return _map(self.directory / VALUES, "float32", self.facts.num_events) if self.facts.has_values else None

    @cached_property
    def actions(self) -> Vocab:
        """Names of the actions and their rows, as in `sequences.actions`; empty if the source has none."""
        return Vocab(self.facts.actions)

    def action_counts(self) -> dict[str, int]:
        """Return how many events have each action, in the order of rows, and last, under "", how many have none."""
        if self.sequences.actions is None:
            return {}
        unknown, *known = np.bincount(self.sequences.actions, minlength=len(self.actions) + 1).tolist()
        return dict(zip(self.facts.actions, known, strict=True)) | {"": unknown}

    def context(self, name: str) -> NDArray[Any]:
        """Return the context column `name`, `[E]`, memory-mapped: numbers, or int32 codes (-1 if missing).

        Raises:
            SourceError: the store has no such column.
        """
        if name not in self.facts.context:
            raise SourceError(f"{self.directory}: no context column {name!r}, found {sorted(self.facts.context)}")
        return _map(self.directory / f"context_{name}.npy", None, self.facts.num_events)

    def context_names(self, name: str) -> list[str]:
        """Return the text behind the codes of a context column of kind "category"."""
        if self.facts.context.get(name) != "category":
            raise SourceError(f"{self.directory}: {name!r} is not a text column; kinds are {self.facts.context}")
        table = pq.read_table(self.directory / f"context_{name}.parquet")
        return [str(text) for text in table.column("value").to_pylist()]


def read_fingerprint(root: Path) -> str | None:
    """Return the fingerprint of the current store below `root`, or None when there is none that can be opened."""
    try:
        return EventStore.open(root).facts.fingerprint
    except SourceError:
        return None


def _read_facts(directory: Path) -> StoreFacts:
    path = directory / STORE_JSON
    try:
        raw = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{directory}: no readable {STORE_JSON}; expected a store written by `retrank ingest`"
        ) from error
    try:
        facts = StoreFacts.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise SourceError(
            f"{path}: {where}: {said_of(first['msg'])}; the file is damaged or of another version, ingest again"
        ) from error
    if facts.format_version != STORE_FORMAT:
        raise SourceError(
            f"{path}: store format {facts.format_version}, this version reads {STORE_FORMAT}; ingest again"
        )
    return facts


def _map(path: Path, dtype: str | None, length: int) -> NDArray[Any]:
    try:
        column: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: missing; the store is incomplete, ingest again") from error
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path}: not a readable .npy file ({error}); the store is damaged, ingest again") from error
    if column.shape != (length,) or (dtype is not None and column.dtype != dtype):
        raise SourceError(
            f"{path}: {column.dtype} {list(column.shape)}, expected {dtype or 'any type'} [{length}]; ingest again"
        )
    return column


def _check_rows(path: Path, expected: int) -> None:
    try:
        found = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"{path}: not a readable Parquet file ({error}); the store is damaged, ingest again"
        ) from error
    if found != expected:
        raise SourceError(f"{path}: {found} rows, expected {expected}; ingest again")


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report of a store as lines for a person: rows read, accepted, and counts per rule."""
    lines = [f"rows read {report['rows']:,}, accepted {report['accepted']:,}", *_counts(report)]
    if repeats := report.get("repeats"):
        lines.append(
            f"  repeats: {repeats:,} events equal another of the same user and moment in every column that is read; "
            "they stay, each counts: if the source says them twice by mistake, remove them there"
        )
    for kind in ("item", "user"):
        if apart := report.get(f"{kind}s"):
            met = f", about {apart['met']:,} {kind}s with events" if "met" in apart else ""
            lines += [f"{kind} rows read {apart['rows']:,}{met}", *_counts(apart)]
    return lines


def _counts(report: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, label in (("filtered", "left out"), ("bad", "bad row")):
        for reason, count in report[kind].items():
            lines.append(f"  {label}: {reason} {count:,}")
            lines += [f"    {example}" for example in report["examples"].get(reason, [])[:_SHOWN_EXAMPLES]]
    return lines
