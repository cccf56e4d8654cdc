"""What a person recognises an item by: title, price and whatever else the catalogue holds, kept in columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

_TITLE = "title"
_MAX_KEPT = 20_000  # records; some ten megabytes in every replica


class ItemAttributes:
    """Display attributes; row i of the table describes item row i + 1, its first column is `item_id`.

    Records are made when first asked for and kept, as the same few items are on most slates.
    """

    def __init__(self, table: pa.Table) -> None:
        """Wrap a table whose values JSON can hold."""
        self.table = table
        self._columns = [(name, _whole(table.column(name))) for name in table.column_names if name != "item_id"]
        self._made: dict[int, dict[str, Any]] = {}

    @classmethod
    def read(cls, path: Path, columns: Sequence[str]) -> "ItemAttributes":
        """Read the named columns; types JSON does not have (dates, decimals) become text."""
        wanted = ["item_id", *(name for name in columns if name != "item_id")]
        table = pq.read_table(path, columns=wanted).combine_chunks()
        return cls(pa.table({name: _plain(table.column(name)) for name in table.column_names}))

    def of(self, rows: NDArray[np.integer]) -> list[dict[str, Any]]:
        """Return the attributes of some item rows, in that order, not to be changed; missing values are left out."""
        wanted = rows.tolist()
        missing = [row for row in wanted if row not in self._made]
        if missing:
            if len(self._made) + len(missing) > _MAX_KEPT:
                self._made = {}
                missing = wanted
            self._made |= dict(zip(missing, self._make(missing), strict=True))
        return [self._made[row] for row in wanted]

    def _make(self, rows: list[int]) -> list[dict[str, Any]]:
        """Read value by value: for a few rows that is several times quicker than taking them out of the table."""
        return [
            {name: value for name, column in self._columns if not _missing(value := column[row - 1].as_py())}
            for row in rows
        ]

    def titles(self) -> dict[str, str]:
        """Return the title of every item that has one, by item id."""
        if _TITLE not in self.table.column_names:
            return {}
        ids, titles = (self.table.column(name).to_pylist() for name in ("item_id", _TITLE))
        return {item_id: title for item_id, title in zip(ids, titles, strict=True) if title}

    def matching(self, text: str) -> NDArray[np.bool_]:
        """Tell for each item row - 1 `[N]` whether its id or title contains the text, whatever the case."""
        found = np.zeros(self.table.num_rows, dtype=bool)
        for name in ("item_id", _TITLE):
            if name in self.table.column_names:
                hits = pc.match_substring(self.table.column(name), text, ignore_case=True)
                found |= hits.fill_null(False).to_numpy()
        return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    keeps = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return column if keeps else column.cast(pa.string())
