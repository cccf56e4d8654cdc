"""Rows for ids that stream past in batches: the first id seen gets row 1. Python touches distinct ids only."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrank.contract.errors import SourceError


class VocabBuilder:
    """Growing map from id to row; integers and text mix, `7` and `"7"` are the same id."""

    def __init__(self, kind: str) -> None:
        """Start empty; `kind` ("user", "item", ...) is for messages only."""
        self._kind = kind
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of ids so far."""
        return len(self._rows)

    def encode(self, ids: pa.Array) -> NDArray[np.int32]:
        """Return `[n]` int32 rows of `ids`, adding those not seen before; a null gives row 0.

        Raises:
            SourceError: an id is not valid UTF-8.
        """
        encoded = ids.dictionary_encode()
        try:
            distinct = encoded.dictionary.cast(pa.string()).to_pylist()
        except (UnicodeDecodeError, pa.ArrowInvalid) as error:
            raise SourceError(f"a {self._kind} id is not valid UTF-8 ({error}); convert the source to UTF-8") from error
        rows = self._rows
        mapping = np.fromiter(
            (rows.setdefault(raw, len(rows) + 1) for raw in distinct), dtype=np.int32, count=len(distinct)
        )
        if encoded.null_count:
            places = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
            return np.append(mapping, np.int32(0))[places]
        return mapping[encoded.indices.to_numpy()]

    def ids(self) -> list[str]:
        """Return all ids in row order."""
        return list(self._rows)
