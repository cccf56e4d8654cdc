"""What a person recognises an item by: title, price and whatever else the catalogue holds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.attributes import AttributeArrays
from retrank.contract.texts import Texts
from retrank.contract.vocab import Vocab
from retrank.serving.item_columns import ItemColumns

_TITLE = "title"
_MAX_KEPT = 20_000  # records; some ten megabytes in every replica


class ItemAttributes:
    """Display attributes of N items.

    Records are made when first asked for and kept, as the same few items are on most slates.
    """

    def __init__(self, items: Vocab, arrays: AttributeArrays) -> None:
        """Look at the arrays of a bundle.

        Args:
            items: ids of the items.
            arrays: their attributes.
        """
        self.columns = ItemColumns(arrays)
        self._items, self._arrays = items, arrays
        self._made: dict[int, dict[str, Any]] = {}

    def of(self, rows: NDArray[np.integer]) -> list[dict[str, Any]]:
        """Return the attributes of some item rows, in that order, not to be changed; missing values are left out."""
        wanted = rows.tolist()
        made = self._made  # other threads may begin anew meanwhile
        missing = [row for row in wanted if row not in made]
        if missing:
            if len(made) + len(missing) > _MAX_KEPT:
                made = self._made = {}
                missing = wanted
            made.update(zip(missing, self._make(missing), strict=True))
        return [made[row] for row in wanted]

    def titles(self) -> dict[str, str]:
        """Return the title of every item that has one, by item id."""
        titles = self._values(_TITLE, np.arange(1, len(self._items) + 1))
        return {item_id: str(title) for item_id, title in zip(self._items.texts, titles, strict=True) if title}

    def matching(self, text: str) -> NDArray[np.bool_]:
        """Tell for each item row - 1 `[N]` whether its id or title contains the text, whatever the case."""
        found = _containing(self._items.texts, text)
        for column in self._arrays.columns:
            if column.name == _TITLE and column.kind == "text":
                having = np.append(_containing(self._arrays.words, text), False)  # code 0 - 1: the one without
                found |= having[self._arrays.codes[column.place][1:] - 1]
        return found

    def _make(self, rows: list[int]) -> list[dict[str, Any]]:
        places = np.array(rows, dtype=np.int64)
        records: list[dict[str, Any]] = [{} for _ in rows]
        for name, column in self.columns:
            for record, value in zip(records, column.values(places), strict=True):
                if value is not None:
                    record[name] = value
        return records

    def _values(self, name: str, rows: NDArray[np.int64]) -> list[JsonValue]:
        column = self.columns.column(name)
        return [None] * len(rows) if column is None else column.values(rows)


def _containing(texts: Texts, wanted: str) -> NDArray[np.bool_]:
    """Tell of each text whether it contains another one, whatever the case."""
    # Arrow does this without holding up other threads, but takes memory and time to load: only who searches pays it.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    buffers = [None, pa.py_buffer(texts.offsets), pa.py_buffer(texts.letters)]
    column = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    found: NDArray[np.bool_] = pc.match_substring(column, wanted, ignore_case=True).to_numpy(zero_copy_only=False)
    return found
