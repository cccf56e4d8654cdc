"""Raw string ids and the integer rows used inside: `ids[row - 1]` has row `row`; row 0 is padding / unknown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrank.contract.errors import SourceError


@dataclass(frozen=True)
class Vocab:
    """Two-way map between raw ids and rows 1..N."""

    ids: Sequence[str]
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the ids."""
        object.__setattr__(self, "_rows", {raw: row for row, raw in enumerate(self.ids, start=1)})

    def __len__(self) -> int:
        """Return the number of ids N, padding not counted."""
        return len(self.ids)

    def row(self, raw_id: str) -> int:
        """Return the row of `raw_id`, or 0 when it is unknown."""
        return self._rows.get(raw_id, 0)

    def rows(self, raw_ids: Iterable[str]) -> NDArray[np.int32]:
        """Return the rows of known ids in order; unknown ids are dropped."""
        return np.array([row for raw in raw_ids if (row := self._rows.get(raw, 0))], dtype=np.int32)

    def id(self, row: int) -> str:
        """Return the raw id of row 1..N."""
        if not 1 <= row <= len(self.ids):
            raise IndexError(f"row {row} is outside 1..{len(self.ids)}")
        return self.ids[row - 1]

    @classmethod
    def read(cls, path: Path, column: str) -> "Vocab":
        """Read the ids from one string column of a Parquet file whose row i (0-based) holds vocab row i + 1.

        Raises:
            SourceError: the file has no such column.
        """
        names = pq.read_schema(path).names
        if column not in names:
            raise SourceError(f"{path}: no column {column!r}, found {names}")
        return cls(pq.read_table(path, columns=[column]).column(column).cast(pa.string()).to_pylist())
