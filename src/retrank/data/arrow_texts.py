"""Columns of Arrow tables as `Texts`: their buffers are taken as they are, no string is made."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrank.contract.errors import SourceError
from retrank.contract.texts import Texts
from retrank.contract.vocab import Vocab


def texts_of(column: pa.Array | pa.ChunkedArray) -> Texts:
    """Return a column without nulls as texts."""
    chunks = column.cast(pa.large_string())
    array = pa.concat_arrays(chunks.chunks) if isinstance(chunks, pa.ChunkedArray) and chunks.num_chunks else chunks
    if len(array) == 0:
        return Texts.of([])
    _, offsets, letters = array.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    block = np.frombuffer(letters, dtype=np.uint8) if letters else np.empty(0, dtype=np.uint8)
    return Texts(block[bounds[0] : bounds[-1]], bounds - bounds[0])


def read_vocab(path: Path, column: str, rows: slice = slice(None)) -> Vocab:
    """Read ids from some rows of a string column of a Parquet file; row i (0-based) of them holds vocab row i + 1.

    Raises:
        SourceError: the file has no such column.
    """
    names = pq.read_schema(path).names
    if column not in names:
        raise SourceError(f"{path}: no column {column!r}, found {names}")
    return Vocab(texts_of(pq.read_table(path, columns=[column]).column(column)[rows]))
