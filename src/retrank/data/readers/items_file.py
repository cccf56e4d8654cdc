"""Attributes of items, or of users, kept in a file of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from retrank.contract.context import MAX_NAME
from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.attributes_file import AttributesFile
from retrank.data.readers.columns import Column
from retrank.data.readers.normalise import Refusals, as_numbers, as_words, located
from retrank.data.readers.text_table import TextFormat, TextRows
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

    def __post_init__(self) -> None:
        """Refuse a name that is taken, and numbers that are no attributes.

        Raises:
            ConfigError: naming the key.
        """
        group = self._file().group
        if unknown := sorted(set(self.numbers) - set(self.attributes)):
            raise ConfigError(
                f"{group}.numbers: {unknown} are not in {group}.attributes, which has {sorted(self.attributes)}"
            )

    def sources(self) -> list[Path]:
        """Return the files.

        Raises:
            SourceError: nothing is there.
        """
        return self._file().sources()

    def read(self, report: RowReport) -> pa.Table:
        """Return `item_id` (text), and the attributes.

        Args:
            report: told about every row: refused where a cell of `numbers` is no number (the row stays, the cell is
                null; an empty one is simply missing) or the width is another; left out without an id, or repeated.

        Raises:
            SourceError: a file cannot be read or lacks a column, or no cell of an attribute in `numbers` is a number.
        """
        file = self._file()
        table = pa.concat_tables(
            [self._with_numbers(rows, report) for rows in file.blocks(report)], promote_options="permissive"
        )
        for name in self.numbers:
            if table.num_rows and table[name].null_count == table.num_rows:
                seen = report.examples.get(_not_a_number(name), ["its cells are empty"])[0]
                raise SourceError(
                    f"{self.path}: no number in column {self.attributes[name]!r}, which {file.group}.numbers has as "
                    f"{name!r}: {seen}; expected numbers like 13.93, or drop it from numbers"
                )
        return file.with_ids(table, report)

    def _file(self) -> AttributesFile:
        return AttributesFile(self.path, self.id, self.attributes, self.format, "item_id", "data.items")

    def _with_numbers(self, rows: TextRows, report: RowReport) -> pa.Table:
        """Return a block with its numbers as float64, telling the report about cells that are none."""
        ready = dict(rows.columns)
        refused = Refusals(len(ready["item_id"]), rows.where, report)
        for name in self.numbers:
            plain = ready[name]
            with located(rows.where):
                ready[name] = as_numbers(plain, name)
            refused.add(_not_a_number(name), pc.and_(pc.is_valid(plain), pc.is_null(ready[name])), plain)
        return pa.table(ready)


@dataclass(frozen=True)
class UsersFile:
    """User attributes by user id; all are words, as the fields of a context are: put numbers into bins.

    Attributes:
        path, id, attributes, format: as of `ItemsFile`.
    """

    path: str
    id: Column
    attributes: Mapping[str, Column]
    format: TextFormat = field(default_factory=TextFormat)

    def __post_init__(self) -> None:
        """Refuse a name that is taken, or that no field can have.

        Raises:
            ConfigError: naming the key.
        """
        self._file()
        if long := [name for name in self.attributes if not 1 <= len(name) <= MAX_NAME]:
            raise ConfigError(
                f"users.attributes: {long[0]!r} names no field of a context; expected 1 to {MAX_NAME} letters"
            )

    def sources(self) -> list[Path]:
        """Return the files.

        Raises:
            SourceError: nothing is there.
        """
        return self._file().sources()

    def read(self, report: RowReport) -> pa.Table:
        """Return `user_id` and the attributes, all text; what is empty is null.

        Args:
            report: told about every row: refused where the width is another; left out without an id, or repeated.

        Raises:
            SourceError: a file cannot be read or lacks a column, or an attribute has no text.
        """
        file = self._file()
        blocks = []
        for rows in file.blocks(report):
            with located(rows.where):
                blocks.append(pa.table({name: as_words(column) for name, column in rows.columns.items()}))
        return file.with_ids(pa.concat_tables(blocks), report)

    def _file(self) -> AttributesFile:
        return AttributesFile(self.path, self.id, self.attributes, self.format, "user_id", "users")


def _not_a_number(name: str) -> str:
    return f"{name} is not a number"
