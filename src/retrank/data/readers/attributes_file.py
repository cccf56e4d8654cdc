"""A table of attributes by id, delimited or Parquet: what files of items and files of users have in common."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.columns import Column
from retrank.data.readers.normalise import told_in
from retrank.data.readers.paths import files_at
from retrank.data.readers.text_table import TextFormat, TextRows, read_text
from retrank.data.report import RowReport


@dataclass(frozen=True)
class AttributesFile:
    """Attributes by id.

    Attributes:
        path: a delimited file, or one whose name ends in `.parquet`; or a directory of either.
        id: column with the id.
        attributes: name -> column.
        format: how a delimited file is written.
        id_name: what the id is called in the table that is made of it: `item_id` or `user_id`.
        group: of the settings, for messages: `data.items` or `users`.
    """

    path: str
    id: Column
    attributes: Mapping[str, Column]
    format: TextFormat
    id_name: str
    group: str

    def __post_init__(self) -> None:
        """Refuse a name that is taken.

        Raises:
            ConfigError: naming the key.
        """
        if self.id_name in self.attributes:
            raise ConfigError(f"{self.group}.attributes: the name {self.id_name!r} is taken by the id; choose another")

    def sources(self) -> list[Path]:
        """Return the files.

        Raises:
            SourceError: nothing is there.
        """
        return files_at(self.path, f"{self.group}.path")

    def blocks(self, report: RowReport) -> Iterator[TextRows]:
        """Yield the id and the attributes of some rows at a time; an empty text is null.

        Args:
            report: told about every row, and those of another width.

        Raises:
            SourceError: a file cannot be read or lacks a column, or there is no row.
        """
        empty = True
        for path in self.sources():
            for rows in self._rows_of(path, report):
                report.read(len(rows.columns[self.id_name]))
                empty = False
                yield rows
        if empty:
            raise SourceError(f"{self.path}: no row below the header; expected one per {self.id_name}")

    def with_ids(self, table: pa.Table, report: RowReport) -> pa.Table:
        """Return the rows that have an id; those without one, or one seen before, are reported as left out."""
        known = table.filter(table[self.id_name].is_valid())
        if without := table.num_rows - known.num_rows:
            report.leave_out(f"missing {self.id_name}", without)
        if repeated := known.num_rows - pc.count_distinct(known[self.id_name]).as_py():
            report.leave_out(f"{self.id_name} seen before, its first row counts", repeated)
        return known

    def _rows_of(self, path: Path, report: RowReport) -> Iterator[TextRows]:
        roles = {self.id_name: self.id, **self.attributes}
        if path.suffix == ".parquet":
            return iter([self._read_parquet(path, roles)])
        return read_text(path, self.format, roles, report, self._setting)

    def _setting(self, role: str) -> str:
        return f"{self.group}.id" if role == self.id_name else f"{self.group}.attributes.{role}"

    def _read_parquet(self, path: Path, roles: Mapping[str, Column]) -> TextRows:
        try:
            names = pq.read_schema(path).names
            missing = [(role, column) for role, column in roles.items() if column not in names]
            if missing:
                role, column = missing[0]
                setting = self._setting(role)
                raise SourceError(f"{path}: no column {column!r}, which {setting} names, found {names}; set {setting}")
            table = pq.read_table(path, columns=[str(column) for column in roles.values()])
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: not a readable Parquet file ({error})") from error
        columns = {role: told_in(table[str(column)].combine_chunks()) for role, column in roles.items()}
        columns[self.id_name] = columns[self.id_name].cast(pa.string())
        return TextRows(columns, lambda row: f"{path}: row {row + 1:,}")
