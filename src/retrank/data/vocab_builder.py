"""Rows for ids that stream past in batches: the first id seen gets row 1. Vectorised; ids stay in Arrow memory."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from retrank.contract.errors import SourceError


class VocabBuilder:
    """Growing map from id to row; integers and text mix, `7` and `"7"` are the same id."""

    def __init__(self, kind: str, max_length: int | None = None) -> None:
        """Start empty.

        Args:
            kind: "user", "item", ...: for messages only.
            max_length: characters of an id at most; None = any number.
        """
        self._kind, self._max_length = kind, max_length
        self._known: pa.Array = pa.array([], pa.int64())

    def __len__(self) -> int:
        """Return the number of ids so far."""
        return len(self._known)

    def encode(self, ids: pa.Array) -> NDArray[np.int32]:
        """Return `[n]` int32 rows of `ids`, adding those not seen before; a null gives row 0.

        Raises:
            SourceError: an id is not valid UTF-8, or too long.
        """
        encoded = ids.dictionary_encode()
        rows = np.append(self._rows_of(self._aligned(encoded.dictionary)), np.int32(0))
        indices = encoded.indices.fill_null(len(rows) - 1) if encoded.null_count else encoded.indices
        result: NDArray[np.int32] = rows[indices.to_numpy()]
        return result

    def ids(self) -> list[str]:
        """Return all ids in row order, as text."""
        texts: list[str] = self._known.cast(pa.large_string()).to_pylist()
        return texts

    def _aligned(self, distinct: pa.Array) -> pa.Array:
        """Bring new and known ids to one type: 64-bit integers as long as all are, else text."""
        if pat.is_integer(distinct.type) and pat.is_integer(self._known.type) and distinct.type != pa.uint64():
            return distinct.cast(pa.int64())
        if pat.is_integer(self._known.type):
            self._known = self._known.cast(pa.large_string())
        return distinct.cast(pa.large_string())

    def _rows_of(self, distinct: pa.Array) -> NDArray[np.int32]:
        """Return the rows of distinct ids, in order of appearance for new ones."""
        places = pc.index_in(distinct, value_set=self._known)
        rows: NDArray[np.int32] = places.fill_null(-1).to_numpy() + np.int32(1)
        is_new = rows == 0
        if is_new.any():
            added = distinct.filter(pa.array(is_new))
            self._check_text(added)
            rows[is_new] = np.arange(len(self._known) + 1, len(self._known) + len(added) + 1, dtype=np.int32)
            self._known = pa.concat_arrays([self._known, added])
        return rows

    def _check_text(self, added: pa.Array) -> None:
        try:
            added.validate(full=True)
        except pa.ArrowInvalid as error:
            raise SourceError(f"a {self._kind} id is not valid UTF-8 ({error}); convert the source to UTF-8") from error
        if self._max_length is None or pat.is_integer(added.type):
            return
        longest = pc.max(pc.utf8_length(added)).as_py()
        if longest > self._max_length:
            (first, *_) = added.filter(pc.greater(pc.utf8_length(added), self._max_length)).to_pylist()
            raise SourceError(
                f"{self._kind} id {first[:80]!r}... has {len(first):,} characters; expected at most "
                f"{self._max_length}, no request could name it: give it a shorter id in the source"
            )
