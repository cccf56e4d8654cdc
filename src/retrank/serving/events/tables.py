"""Events as rows of Parquet: columns, keys, and which of them are repetitions.

Partitions are `tenant=NAME/date=YYYY-MM-DD`: what is one tenant's is never read with another's, and days are those of
**arrival**, UTC. A late event then lands in a new file of the day it came, and old files need not be written again;
when it happened is the column `at`.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrank.contract.errors import SourceError
from retrank.contract.events import DEDUP_DAYS
from retrank.contract.moments import DAY_US
from retrank.serving.events.records import EventRecord, event_time_us

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("arrived_at", _TIME, nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("anonymous_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("recommendation_token", pa.string()),
        pa.field("attributed", pa.bool_()),
        pa.field("placement", pa.string()),
        pa.field("context", pa.string()),
        pa.field("key", pa.binary(16), nullable=False),
    ]
)
"""`person` is `contract.events.person_key`; `attributed` as in `EventRecord`; `context` is JSON; `key` names (tenant,
person, event_id)."""
ROOT_NAME = "parquet"
"""Folder of the partitions, below the directory of the log, unless another is named."""
WINDOW_US = DEDUP_DAYS * DAY_US


def key_of(tenant: str, person: str, event_id: str) -> bytes:
    """Return the 16 bytes under which repetitions of an event are found."""
    return hashlib.blake2b(json.dumps([tenant, person, event_id]).encode(), digest_size=16).digest()


def date_of(arrived_us: int) -> str:
    """Return the partition of an arrival: YYYY-MM-DD, UTC."""
    return datetime.fromtimestamp(arrived_us // 1_000_000, UTC).date().isoformat()


def partition_of(record: EventRecord) -> str:
    """Return the folder of an event, relative to the root; names of tenants are percent-encoded."""
    return f"tenant={quote(record.tenant, safe='')}/date={date_of(record.arrived_us)}"


def without_repetitions(
    records: Iterable[EventRecord], published: Mapping[bytes, Sequence[int]]
) -> dict[str, list[EventRecord]]:
    """Return the events that are new, by partition, in the order of arrival; of repetitions the first to arrive stays.

    Args:
        records: events, in any order.
        published: arrivals of what earlier compactions wrote, by key; see `published_keys`.
    """
    arrivals: dict[bytes, list[int]] = defaultdict(list, {key: list(times) for key, times in published.items()})
    kept: dict[str, list[EventRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.arrived_us):
        assert record.event is not None
        seen = arrivals[key_of(record.tenant, record.event.person, record.event.event_id)]
        if all(abs(record.arrived_us - arrived_us) >= WINDOW_US for arrived_us in seen):
            seen.append(record.arrived_us)
            kept[partition_of(record)].append(record)
    return dict(kept)


def published_keys(root: Path, records: Sequence[EventRecord]) -> dict[bytes, list[int]]:
    """Return key -> arrivals of those published events that may be the same as one of the records.

    Costs the keys of the files of about two windows around the records, 24 bytes each, one file at a time.

    Raises:
        SourceError: a published file is damaged.
    """
    found: dict[bytes, list[int]] = defaultdict(list)
    if not records:
        return found
    wanted = pa.array(
        [key_of(r.tenant, r.event.person, r.event.event_id) for r in records if r.event is not None], pa.binary(16)
    )
    first = date_of(min(record.arrived_us for record in records) - WINDOW_US)
    last = date_of(max(record.arrived_us for record in records) + WINDOW_US)
    for path in published_files(root):
        if first <= path.parent.name.removeprefix("date=") <= last:
            table = read_columns(path, ["key", "arrived_at"])
            table = table.filter(pc.is_in(table["key"], value_set=wanted))
            times = table["arrived_at"].cast(pa.int64()).to_pylist()
            for key, arrived_us in zip(table["key"].to_pylist(), times, strict=True):
                found[key].append(arrived_us)
    return found


def published_files(root: Path) -> list[Path]:
    """Return the files of all partitions, by tenant and date."""
    return sorted(root.glob("tenant=*/date=*/*.parquet"))


def read_columns(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a published file, or some of its columns.

    Raises:
        SourceError: it is damaged.
    """
    try:
        return pq.ParquetFile(path).read(columns)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: damaged ({error}); restore it from a copy or move it away") from error


def write_table(table: pa.Table, path: Path) -> None:
    """Write a file of a partition; not yet durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def to_table(records: Sequence[EventRecord]) -> pa.Table:
    """Return events as rows, in their order."""
    return pa.Table.from_pylist([_row(record) for record in records], schema=SCHEMA)


def _row(record: EventRecord) -> dict[str, object]:
    event = record.event
    assert event is not None
    return {
        **event.model_dump(exclude={"at", "context"}),
        "tenant": record.tenant,
        "attributed": record.attributed,
        "person": event.person,
        "at": event_time_us(event, record.arrived_us),
        "arrived_at": record.arrived_us,
        "context": json.dumps(event.context, sort_keys=True) if event.context else None,
        "key": key_of(record.tenant, event.person, event.event_id),
    }
