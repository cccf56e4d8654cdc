"""Events in Parquet: one file or a directory of files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrank.contract.errors import SourceError
from retrank.data.readers.columns import Columns, setting_of
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.json_cells import parts, values_of
from retrank.data.readers.normalise import located, normalise
from retrank.data.readers.paths import files_at
from retrank.data.report import RowReport

_ROWS = 1 << 20


@dataclass(frozen=True)
class ParquetFiles:
    """Reader of Parquet files with a column mapping by name; `context.country` is a key of cells: JSON, or structs.

    Attributes:
        path: a file, or a directory whose files are read in the order of their names.
        columns: which column means what.
        name: name of the dataset.
        items: item attributes in a file of their own, or None.
    """

    path: str
    columns: Columns
    name: str = "parquet"
    items: ItemsFile | None = None

    def sources(self) -> Sequence[Path]:
        """Return the files of events, then those of items.

        Raises:
            SourceError: nothing is there.
        """
        return files_at(self.path) + (self.items.sources() if self.items else [])

    def expected_rows(self) -> int | None:
        """Return the number of rows that the files state."""
        return sum(int(_open(path).metadata.num_rows) for path in files_at(self.path))

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield the events of all files, about a million at a time.

        Raises:
            SourceError: a file is not Parquet, is damaged, or lacks a column.
        """
        for path in files_at(self.path):
            yield from self._batches_of(path, report)

    def item_table(self, report: RowReport) -> pa.Table | None:
        """Return the attributes of the items file, if there is one."""
        return self.items.read(report) if self.items else None

    def _batches_of(self, path: Path, report: RowReport) -> Iterator[pa.RecordBatch]:
        roles = {role: str(column) for role, column in self.columns.roles().items()}
        source = _open(path)
        names = source.schema_arrow.names
        places = {role: parts(column, names) for role, column in roles.items()}
        for role, (column, _) in places.items():
            if column not in names:
                raise SourceError(
                    f"{path}: no column {column!r}, which {setting_of(role)} names, found {names}; "
                    f"set {setting_of(role)}"
                )
        first = 1
        for batch in _read(source, path, sorted({column for column, _ in places.values()})):
            where = _locator(path, first)
            with located(where):
                raw = {
                    role: batch.column(column) if key is None else values_of(batch.column(column), key)
                    for role, (column, key) in places.items()
                }
            yield normalise(raw, self.columns, where, report)
            first += batch.num_rows


def _read(source: pq.ParquetFile, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    rows = 0
    try:
        for batch in source.iter_batches(batch_size=_ROWS, columns=columns):
            rows += batch.num_rows
            yield batch
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: damaged after row {rows:,} ({error}); fetch the file again") from error


def _locator(path: Path, first: int) -> Callable[[int], str]:
    return lambda row: f"{path}: row {first + row:,}"


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error}); is it empty or truncated?") from error
