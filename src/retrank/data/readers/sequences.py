"""Plain sequence files of the sequential-recommendation papers: whitespace between ids, lines in time order, no times.

Two shapes: `user item` per line (`ml-1m.txt` of SASRec), or one user per line followed by all items, oldest first
(`Beauty.txt` of S3-Rec).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa

from retrank.contract.errors import ConfigError, SourceError
from retrank.data.readers.protocol import ITEM, USER
from retrank.data.readers.text import line_of_invalid_text, open_text
from retrank.data.report import RowReport

_LINES = 1 << 17


@dataclass(frozen=True)
class SequenceFile:
    """Reader of one sequence file, plain or gz.

    Attributes:
        path: the file.
        name: name of the dataset.
        shape: "pairs" = `user item` per line; "user_per_line" = `user item item ...`.
    """

    path: str
    name: str = "sequence_file"
    shape: Literal["pairs", "user_per_line"] = "pairs"

    def __post_init__(self) -> None:
        """Refuse an unknown shape.

        Raises:
            ConfigError: `shape` is neither of the two.
        """
        if self.shape not in ("pairs", "user_per_line"):
            raise ConfigError(f"data.shape is {self.shape!r}; expected 'pairs' or 'user_per_line'")

    def sources(self) -> Sequence[Path]:
        """Return the file.

        Raises:
            SourceError: it does not exist.
        """
        path = Path(self.path)
        if not path.is_file():
            raise SourceError(f"{path}: no such file; expected a text file with 'user item' lines, set data.path")
        return [path]

    def expected_rows(self) -> int | None:
        """Unknown before the file was read."""
        return None

    def item_table(self, report: RowReport) -> pa.Table | None:  # noqa: ARG002  (nothing to refuse)
        """These files know ids only."""
        return None

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield events of a few thousand lines at a time.

        Raises:
            SourceError: the file is truncated or not UTF-8.
        """
        (path,) = self.sources()
        read = self._read_pairs if self.shape == "pairs" else self._read_users
        line = 1
        try:
            with open_text(path) as stream:
                while lines := list(islice(stream, _LINES)):
                    users, items = read(lines, f"{path}", line, report)
                    line += len(lines)
                    yield pa.record_batch({USER: pa.array(users, pa.string()), ITEM: pa.array(items, pa.string())})
        except UnicodeDecodeError as error:
            raise SourceError(line_of_invalid_text(path)) from error
        except (OSError, EOFError) as error:
            raise SourceError(f"{path}: cannot be read after line {line - 1}: {error}; is it truncated?") from error

    @staticmethod
    def _read_pairs(lines: list[str], path: str, first: int, report: RowReport) -> tuple[list[str], list[str]]:
        fields = [line.split() for line in lines]
        wrong = [place for place, parts in enumerate(fields) if len(parts) not in (0, 2)]
        report.refuse(
            "not two fields 'user item'", len(wrong), (f"{path}:{first + place}: {lines[place]!r}" for place in wrong)
        )
        pairs = [parts for parts in fields if len(parts) == 2]
        report.read(len(pairs) + len(wrong))
        return [user for user, _ in pairs], [item for _, item in pairs]

    @staticmethod
    def _read_users(lines: list[str], path: str, first: int, report: RowReport) -> tuple[list[str], list[str]]:
        fields = [line.split() for line in lines]
        wrong = [place for place, parts in enumerate(fields) if len(parts) == 1]
        report.refuse(
            "a user without items", len(wrong), (f"{path}:{first + place}: {lines[place]!r}" for place in wrong)
        )
        rows = [parts for parts in fields if len(parts) > 1]
        items = [item for parts in rows for item in parts[1:]]
        report.read(len(items) + len(wrong))
        users = [parts[0] for parts in rows for _ in parts[1:]]
        return users, items
