"""Events in delimited text: CSV, TSV or any other delimiter, plain or gz, one file or a directory of files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from retrank.data.readers.columns import Columns, setting_of
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.normalise import normalise
from retrank.data.readers.paths import files_at
from retrank.data.readers.text_table import TextFormat, read_text
from retrank.data.report import RowReport


@dataclass(frozen=True)
class Delimited:
    """Reader of delimited text with a column mapping.

    Attributes:
        path: a file, or a directory whose files are read in the order of their names.
        columns: which column means what.
        name: name of the dataset.
        delimiter: one or more characters.
        header: whether the first line of every file holds column names.
        encoding: of the text.
        quote: quoting character, or None.
        items: item attributes in a file of their own, or None.
    """

    path: str
    columns: Columns
    name: str = "csv"
    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    quote: str | None = '"'
    items: ItemsFile | None = None

    def __post_init__(self) -> None:
        """Refuse a format the parser could not honour.

        Raises:
            ConfigError: naming the key.
        """
        self._format()

    def sources(self) -> Sequence[Path]:
        """Return the files of events, then those of items.

        Raises:
            SourceError: nothing is there.
        """
        return files_at(self.path) + (self.items.sources() if self.items else [])

    def expected_rows(self) -> int | None:
        """Unknown before the files were read."""
        return None

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield the events of all files.

        Raises:
            SourceError: a file is empty, truncated, in another encoding, or lacks a column.
        """
        for path in files_at(self.path):
            for rows in read_text(path, self._format(), self.columns.roles(), report, setting_of):
                yield normalise(rows.columns, self.columns, rows.where, report)

    def item_table(self, report: RowReport) -> pa.Table | None:
        """Return the attributes of the items file, if there is one."""
        return self.items.read(report) if self.items else None

    def _format(self) -> TextFormat:
        return TextFormat(self.delimiter, self.header, self.encoding, self.quote)
