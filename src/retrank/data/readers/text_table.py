"""Streaming columns out of one delimited text file with pyarrow's CSV reader; every problem names file and line."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.columns import Column
from retrank.data.readers.text import line_of_invalid_text, open_bytes, open_text
from retrank.data.report import RowReport

_BLOCK_BYTES = 1 << 22
_UNIT_SEPARATOR = b"\x1f"
_COMMON_DELIMITERS = ",\t;|: "


@dataclass(frozen=True)
class TextFormat:
    """How a delimited file is written.

    Attributes:
        delimiter: one or more characters, for example "," or "::".
        header: whether the first line holds column names; without it columns are numbers from 1.
        encoding: of the text, for example utf-8 or latin-1.
        quote: quoting character, or None when quotes mean nothing.
    """

    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"
    quote: str | None = '"'

    def __post_init__(self) -> None:
        """Refuse what the parser could not honour.

        Raises:
            ConfigError: naming the key.
        """
        if not self.delimiter or not self.delimiter.isascii():
            raise ConfigError(f"data.delimiter is {self.delimiter!r}; expected one or more ASCII characters")
        if self.quote is not None and len(self.quote) != 1:
            raise ConfigError(f"data.quote is {self.quote!r}; expected one character or null")
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ConfigError(f"data.encoding is {self.encoding!r}, which is unknown; try utf-8 or latin-1") from error


class TextRows(NamedTuple):
    """Some rows of a file: role -> text column, and a function from row (0-based) to "file:line"."""

    columns: dict[str, pa.Array]
    where: Callable[[int], str]


def read_text(
    path: Path, form: TextFormat, roles: Mapping[str, Column], report: RowReport, setting: Callable[[str], str]
) -> Iterator[TextRows]:
    """Yield the mapped columns as text, about 4 MiB of text at a time; empty fields are null.

    Rows with a wrong number of columns are refused and blank lines left out, both counted in `report`.

    Args:
        path: the file.
        form: how it is written.
        roles: role -> column.
        report: told about rows that are refused or left out.
        setting: returns the dotted name of the setting that maps a role, for messages.

    Raises:
        SourceError: the file is empty, truncated, in another encoding, or lacks a column.
    """
    names = _first_line(path, form)
    places = {role: _place(path, form, names, column, setting(role)) for role, column in roles.items()}
    lines = _LineNumbers(path, 2 if form.header else 1)
    try:
        with _open(path, form) as stream:
            for batch in _open_csv(stream, form, len(names), sorted(set(places.values())), lines.skip(report)):
                columns = {role: batch.column(f"c{place}") for role, place in places.items()}
                yield _without_blank_lines(columns, lines.next_block(batch.num_rows), report)
    except pa.ArrowInvalid as error:
        message = line_of_invalid_text(path, form.encoding) if "UTF8" in str(error) else f"{path}: {error}"
        raise SourceError(message) from error
    except UnicodeDecodeError as error:
        raise SourceError(line_of_invalid_text(path, form.encoding)) from error
    except (OSError, EOFError) as error:
        raise SourceError(
            f"{path}: cannot be read after line {lines.last}: {error}; is the file truncated? fetch it again"
        ) from error


def _first_line(path: Path, form: TextFormat) -> list[str]:
    """Return the fields of the first line."""
    try:
        with open_text(path, form.encoding) as stream:
            line = stream.readline()
    except UnicodeDecodeError as error:
        raise SourceError(line_of_invalid_text(path, form.encoding)) from error
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: cannot be read: {error}; is it damaged or truncated?") from error
    if not line.strip():
        raise SourceError(f"{path}: the file is empty or starts with an empty line; expected a table of events")
    line = line.rstrip("\r\n")
    if len(form.delimiter) > 1 or form.quote is None:
        return line.split(form.delimiter)
    return next(csv.reader([line], delimiter=form.delimiter, quotechar=form.quote))


def _place(path: Path, form: TextFormat, names: list[str], column: Column, setting: str) -> int:
    """Return the 0-based place of a column named by name or by number from 1."""
    if isinstance(column, int):
        if 1 <= column <= len(names):
            return column - 1
        raise SourceError(
            f"{path}:1: {setting} is column {column} but the line has {len(names)}"
            f"{_guess(names, form.delimiter, setting)}"
        )
    if not form.header:
        raise ConfigError(f"{setting} is {column!r} but data.header is false; use column numbers from 1")
    if column in names:
        return names.index(column)
    raise SourceError(
        f"{path}:1: no column {column!r}, which {setting} names, found {names}{_guess(names, form.delimiter, setting)}"
    )


def _guess(names: list[str], delimiter: str, setting: str) -> str:
    """Return advice when the line looks as if it were delimited by something else."""
    if len(names) > 1:
        return f"; set {setting}"
    likely = max(_COMMON_DELIMITERS, key=names[0].count)
    advice = f", the line holds {likely!r}" if names[0].count(likely) else ""
    return f"; is data.delimiter really {delimiter!r}{advice}?"


class _LineNumbers:
    """Keeps count of lines, so that any row of any block can be traced to its line."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._next = first
        self._skipped: list[int] = []

    @property
    def last(self) -> int:
        """The last line that was passed on."""
        return self._line(self._next - 1)

    def skip(self, report: RowReport) -> Callable[[Any], str]:
        """Return pyarrow's handler for rows with a wrong number of columns: count them and go on."""

        def handler(row: Any) -> str:
            self._skipped.append(row.number)
            example = f"{self._path}:{row.number}: {row.actual_columns} columns, expected {row.expected_columns}"
            report.read(1)
            report.refuse("wrong number of columns", 1, [f"{example}: {row.text[:80]!r}"])
            return "skip"

        return handler

    def next_block(self, rows: int) -> Callable[[int], str]:
        """Return the function from a row of the next block to "file:line"."""
        first = self._next
        self._next += rows
        return lambda row: f"{self._path}:{self._line(first + row)}"

    def _line(self, line: int) -> int:
        for skipped in self._skipped:
            if skipped > line:
                break
            line += 1
        return line


def _without_blank_lines(columns: dict[str, pa.Array], where: Callable[[int], str], report: RowReport) -> TextRows:
    if any(column.null_count == 0 for column in columns.values()):
        return TextRows(columns, where)
    table = pa.table(columns)
    blank = table.column(0).is_null()
    for column in table.columns[1:]:
        blank = pc.and_(blank, column.is_null())
    kept = pc.indices_nonzero(pc.invert(blank))
    if len(kept) == table.num_rows:
        return TextRows(columns, where)
    report.read(table.num_rows - len(kept))
    report.leave_out("blank line", table.num_rows - len(kept))
    places = kept.to_pylist()
    return TextRows({role: column.take(kept) for role, column in columns.items()}, lambda row: where(places[row]))


def _open_csv(
    stream: Any, form: TextFormat, num_columns: int, places: list[int], handler: Callable[[Any], str]
) -> pacsv.CSVStreamingReader:
    """Open the streaming reader; single-threaded, because only then are the numbers of bad lines known."""
    names = [f"c{place}" for place in range(num_columns)]
    wanted = [names[place] for place in places]
    return pacsv.open_csv(
        stream,
        read_options=pacsv.ReadOptions(
            column_names=names,
            skip_rows=int(form.header),
            encoding=form.encoding,
            use_threads=False,
            block_size=_BLOCK_BYTES,
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=form.delimiter if len(form.delimiter) == 1 else _UNIT_SEPARATOR.decode(),
            quote_char=form.quote or False,
            invalid_row_handler=handler,
            ignore_empty_lines=False,
            newlines_in_values=form.quote is not None,
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def _open(path: Path, form: TextFormat) -> Any:
    if len(form.delimiter) == 1:
        return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)
    return _OneByteDelimiter(open_bytes(path), form.delimiter.encode())


class _OneByteDelimiter(io.RawIOBase):
    """Byte stream in which a delimiter of several bytes becomes the unit separator, which pyarrow can split at."""

    def __init__(self, stream: BinaryIO, delimiter: bytes) -> None:
        super().__init__()
        self._stream = stream
        self._delimiter = delimiter
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return about `size` bytes; a delimiter cut in half waits for its other half."""
        chunk = self._stream.read(size)
        text = self._rest + chunk
        held = 0
        if chunk:
            held = next((n for n in range(len(self._delimiter) - 1, 0, -1) if text.endswith(self._delimiter[:n])), 0)
        self._rest = text[len(text) - held :]
        ready = text[: len(text) - held].replace(self._delimiter, _UNIT_SEPARATOR)
        return ready if ready or not chunk else self.read(size)

    def close(self) -> None:
        self._stream.close()
        super().close()
