"""Item attributes kept in a file of their own, delimited or Parquet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.columns import Column
from retrank.data.readers.normalise import as_numbers
from retrank.data.readers.paths import files_at
from retrank.data.readers.text_table import TextFormat, read_text
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
        """Refuse a name that is taken.

        Raises:
            ConfigError: naming the key.
        """
        if "item_id" in self.attributes:
            raise ConfigError("data.items.attributes: the name 'item_id' is taken by the id; choose another")

    def sources(self) -> list[Path]:
        """Return the files.

        Raises:
            SourceError: nothing is there.
        """
        return files_at(self.path, "data.items.path")

    def read(self) -> pa.Table:
        """Return `item_id` (text) and the attributes.

        Raises:
            SourceError: a file cannot be read, lacks a column, or has rows of another width.
        """
        table = pa.concat_tables([self._read_one(path) for path in self.sources()], promote_options="permissive")
        for name in self.numbers:
            table = table.set_column(
                table.column_names.index(name), name, as_numbers(table[name].combine_chunks(), name)
            )
        return table.filter(table["item_id"].is_valid())

    def _read_one(self, path: Path) -> pa.Table:
        roles = {"item_id": self.id, **self.attributes}
        if path.suffix == ".parquet":
            return _read_parquet(path, roles)
        report = RowReport()
        blocks = [pa.table(rows.columns) for rows in read_text(path, self.format, roles, report)]
        report.check(0.0)
        return pa.concat_tables(blocks)


def _read_parquet(path: Path, roles: Mapping[str, Column]) -> pa.Table:
    try:
        names = pq.read_schema(path).names
        missing = [column for column in roles.values() if column not in names]
        if missing:
            raise SourceError(f"{path}: no column {missing[0]!r}, found {names}")
        table = pq.read_table(path, columns=[str(column) for column in roles.values()])
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: not a readable Parquet file ({error})") from error
    columns = {role: table[str(column)] for role, column in roles.items()}
    return pa.table({**columns, "item_id": columns["item_id"].cast(pa.string())})
