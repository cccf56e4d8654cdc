"""What ingest needs from a source, and the columns of the record batches it reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from retrank.data.report import RowReport

USER = "user_id"
VISITOR = "visitor"
ITEM = "item_id"
TIME = "time"
ACTION = "action"
ACTION_NAME = "action_name"
VALUE = "value"
CONTEXT_PREFIX = "context_"
ATTRIBUTE = "attribute_"


class Reader(Protocol):
    """A source of events.

    Its `repr` must hold every setting that changes what is read (a frozen dataclass has such a `repr`): together with
    the bytes of `sources()` it decides whether a second ingest has anything to do.
    """

    @property
    def name(self) -> str:
        """Name of the dataset, used for the store's folder and in reports."""
        ...

    def sources(self) -> Sequence[Path]:
        """Return the files that hold the data, in reading order; fetch them first where they come from afar.

        Raises:
            SourceError: a file is missing.
            DownloadError: a file could not be fetched.
        """
        ...

    def expected_rows(self) -> int | None:
        """Return the number of rows to be read for the progress bar, or None when that is unknown beforehand."""
        ...

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield accepted events in source order, and tell `report` about every row read, left out or refused.

        Columns, none with nulls unless said: `user_id` and `item_id` (string or integer); optional `visitor` (string or
        integer, null allowed: who it was where `user_id` is null, which it may be then), `time` (int64 microseconds
        since 1970 UTC), `value` (float32, null = NaN), `action` (string, null allowed), `context_<name>` (number or
        string, null allowed), `attribute_<name>` (attribute of the item of this row, null allowed). All batches have
        the same columns.

        Raises:
            SourceError: a file cannot be read at all.
        """
        ...

    def item_table(self, report: RowReport) -> pa.Table | None:
        """Return item attributes kept apart from the events: `item_id` (string) and one column per attribute, or None.

        Tells `report`, which is not that of the events, about rows and what could not be understood in them.

        Called after `batches` is exhausted; attributes here win over those from `batches`.
        """
        ...
