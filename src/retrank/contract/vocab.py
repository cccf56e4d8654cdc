"""Raw string ids and the integer rows used inside: id number i (0-based) has row i + 1; row 0 is padding / unknown.

The ids lie in one block of bytes beside a sorted table of their hashes: 20 bytes per id and its letters, an eighth of
what a list and a dict of Python strings take, and every replica of a host pays it. A look-up costs about a microsecond.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrank.contract.errors import SourceError

_HASHED_AT_ONCE = 1 << 13  # about a millisecond, after which another thread may have its turn


class Vocab:
    """Two-way map between distinct raw ids and rows 1..N. Never changes."""

    def __init__(self, ids: Sequence[str] | pa.Array) -> None:
        """Index the ids."""
        column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
        self._column = column.cast(pa.large_string())
        _, offsets, letters = self._column.buffers()
        start = self._column.offset
        self._offsets = memoryview(offsets).cast("q")[start : start + len(column) + 1] if offsets else memoryview(b"")
        self._letters = memoryview(letters) if letters else memoryview(b"")
        hashes = _hashes(self._column)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order].data
        self._rows = (order + 1).astype(np.int32).data

    def __len__(self) -> int:
        """Return the number of ids N, padding not counted."""
        return len(self._column)

    @property
    def ids(self) -> list[str]:
        """All ids in row order, as a list made for the occasion."""
        found: list[str] = self._column.to_pylist()
        return found

    def row(self, raw_id: str) -> int:
        """Return the row of `raw_id`, or 0 when it is unknown."""
        wanted = hash(raw_id)
        place = bisect_left(self._hashes, wanted)
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._rows[place])
            if self._raw(row) == raw_id:
                return row
            place += 1
        return 0

    def rows(self, raw_ids: Iterable[str]) -> NDArray[np.int32]:
        """Return the rows of known ids in order; unknown ids are dropped."""
        return np.array([row for raw in raw_ids if (row := self.row(raw))], dtype=np.int32)

    def id(self, row: int) -> str:
        """Return the raw id of row 1..N."""
        if not 1 <= row <= len(self._column):
            raise IndexError(f"row {row} is outside 1..{len(self._column)}")
        return self._raw(row)

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """Return the raw ids of rows 1..N, in that order; they are not checked, see `id`."""
        letters, offsets = self._letters, self._offsets
        return [str(letters[offsets[row - 1] : offsets[row]], "utf-8") for row in rows]

    def _raw(self, row: int) -> str:
        return str(self._letters[self._offsets[row - 1] : self._offsets[row]], "utf-8")

    @classmethod
    def read(cls, path: Path, column: str) -> "Vocab":
        """Read the ids from one string column of a Parquet file whose row i (0-based) holds vocab row i + 1.

        Raises:
            SourceError: the file has no such column.
        """
        names = pq.read_schema(path).names
        if column not in names:
            raise SourceError(f"{path}: no column {column!r}, found {names}")
        read = pq.read_table(path, columns=[column]).column(column).cast(pa.large_string())
        return cls(pa.concat_arrays(read.chunks) if read.num_chunks else pa.array([], pa.large_string()))


def _hashes(column: pa.Array) -> NDArray[np.int64]:
    """Return Python's own hash `[N]` of each id: keyed anew in every process, so that nobody can choose collisions."""
    hashes = np.empty(len(column), dtype=np.int64)
    for start in range(0, len(column), _HASHED_AT_ONCE):
        ids = column.slice(start, _HASHED_AT_ONCE).to_pylist()
        hashes[start : start + len(ids)] = [hash(raw) for raw in ids]
    return hashes
