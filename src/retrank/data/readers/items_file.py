"""Attributes of items, or of users, kept in a file of their own, delimited or Parquet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.columns import Column
from retrank.data.readers.normalise import Refusals, as_numbers, located
from retrank.data.readers.paths import files_at
from retrank.data.readers.text_table import TextFormat, TextRows, read_text
from retrank.data.report import RowReport


@dataclass(frozen=True)
class ItemsFile:
    """Item attributes by item id.

    Attributes:
        path: a delimited file, or one whose name ends in `.parquet`; or a directory of either.
        id: column with the item id.
        attributes: name -> column.
        numbers: names of attributes to be read as numbers; the others are text (Parquet: as they are).
        format: how a delimited file is written.
    """

    path: str
    id: Column
    attributes: Mapping[str, Column]
    numbers: Sequence[str] = ()
    format: TextFormat = field(default_factory=TextFormat)
    kind: ClassVar[str] = "item"

    @property
    def _group(self) -> str:
        """Name of the group of settings, for messages."""
        return f"data.{self.kind}s" if self.kind == "item" else f"{self.kind}s"

    @property
    def _id(self) -> str:
        return f"{self.kind}_id"

    def __post_init__(self) -> None:
        """Refuse a name that is taken, and numbers that are no attributes.

        Raises:
            ConfigError: naming the key.
        """
        if self._id in self.attributes:
            raise ConfigError(f"{self._group}.attributes: the name {self._id!r} is taken by the id; choose another")
        unknown = sorted(set(self.numbers) - set(self.attributes))
        if unknown:
            raise ConfigError(
                f"{self._group}.numbers: {unknown} are not in {self._group}.attributes, which has "
                f"{sorted(self.attributes)}"
            )

    def sources(self) -> list[Path]:
        """Return the files.

        Raises:
            SourceError: nothing is there.
        """
        return files_at(self.path, f"{self._group}.path")

    def read(self, report: RowReport) -> pa.Table:
        """Return `item_id` or `user_id` (text), and the attributes.

        Args:
            report: told about every row: refused where a cell of `numbers` is no number (the row stays, the cell is
                null; an empty one is simply missing) or the width is another; left out without an id, or repeated.

        Raises:
            SourceError: a file cannot be read or lacks a column, or no cell of an attribute in `numbers` is a number.
        """
        blocks = [self._ready(rows, report) for path in self.sources() for rows in self._rows_of(path, report)]
        if not blocks:
            raise SourceError(f"{self.path}: no row below the header; expected one per {self.kind}")
        table = pa.concat_tables(blocks, promote_options="permissive")
        for name in self.numbers:
            if table.num_rows and table[name].null_count == table.num_rows:
                seen = report.examples.get(_not_a_number(name), ["its cells are empty"])[0]
                raise SourceError(
                    f"{self.path}: no number in column {self.attributes[name]!r}, which {self._group}.numbers has as "
                    f"{name!r}: {seen}; expected numbers like 13.93, or drop it from numbers"
                )
        known = table.filter(table[self._id].is_valid())
        if without := table.num_rows - known.num_rows:
            report.leave_out(f"missing {self._id}", without)
        if repeated := known.num_rows - pc.count_distinct(known[self._id]).as_py():
            report.leave_out(f"{self._id} seen before, its first row counts", repeated)
        return known

    def _rows_of(self, path: Path, report: RowReport) -> Iterator[TextRows]:
        roles = {self._id: self.id, **self.attributes}
        if path.suffix == ".parquet":
            return iter([_read_parquet(path, roles, self._id)])
        return read_text(path, self.format, roles, report)

    def _ready(self, rows: TextRows, report: RowReport) -> pa.Table:
        """Return a block with its numbers as float64, telling the report about cells that are none."""
        ready = dict(rows.columns)
        num_rows = len(ready[self._id])
        report.read(num_rows)
        refused = Refusals(num_rows, rows.where, report)
        for name in self.numbers:
            plain = ready[name]
            with located(rows.where):
                ready[name] = as_numbers(plain, name)
            refused.add(_not_a_number(name), pc.and_(pc.is_valid(plain), pc.is_null(ready[name])), plain)
        return pa.table(ready)


@dataclass(frozen=True)
class UsersFile(ItemsFile):
    """User attributes by user id; all are words, as the fields of a context are, and none may be in `numbers`."""

    kind: ClassVar[str] = "user"

    def __post_init__(self) -> None:
        """Refuse a name that is taken or cannot name a field, and numbers.

        Raises:
            ConfigError: naming the key.
        """
        super().__post_init__()
        if self.numbers:
            raise ConfigError(f"users.numbers is {list(self.numbers)}; user attributes are words, put numbers into bins")

    def read(self, report: RowReport) -> pa.Table:
        """Return `user_id` and the attributes, all text; what is empty is null.

        Raises:
            SourceError: as of `ItemsFile.read`.
        """
        table = super().read(report)
        texts = [table[name].combine_chunks().cast(pa.string()) for name in table.column_names]
        told = [pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column) for column in texts]
        return pa.table(dict(zip(table.column_names, told, strict=True)))


def _not_a_number(name: str) -> str:
    return f"{name} is not a number"


def _read_parquet(path: Path, roles: Mapping[str, Column], id_name: str) -> TextRows:
    try:
        names = pq.read_schema(path).names
        missing = [column for column in roles.values() if column not in names]
        if missing:
            raise SourceError(f"{path}: no column {missing[0]!r}, found {names}")
        table = pq.read_table(path, columns=[str(column) for column in roles.values()])
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error})") from error
    columns = {role: table[str(column)].combine_chunks() for role, column in roles.items()}
    ids = columns[id_name].cast(pa.string())
    columns[id_name] = pc.if_else(pc.equal(ids, ""), pa.scalar(None, pa.string()), ids)
    return TextRows(columns, lambda row: f"{path}: row {row + 1:,}")
