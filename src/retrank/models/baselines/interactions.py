"""Who met what, as sparse matrices: the common ground of the neighbourhood baselines."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from retrank.contract.sequences import Sequences

_ROWS = 1 << 15


def user_item_matrix(histories: Sequences, num_items: int) -> sparse.csr_array:
    """Return `[U, N + 1]` float32 CSR with 1 where a user met an item, however often; column 0 is empty."""
    matrix = sparse.csr_array(
        (np.ones(len(histories.item_rows), dtype=np.float32), histories.item_rows, histories.offsets),
        shape=(len(histories), num_items + 1),
        copy=True,  # the next line sorts in place, and histories may be a memory-mapped file
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def strongest_per_row(block: NDArray[np.float32], top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return columns and values of the largest positive entries of each row.

    Args:
        block: `[R, N + 1]` float32.
        top_k: entries per row, >= 1.

    Returns:
        `[R, K]` int32 columns and `[R, K]` float32 values with K = min(top_k, N), largest first, equal values by
        column; 0 and 0.0 where a row has fewer positive entries.
    """
    top_k = min(top_k, block.shape[1] - 1)
    cut = np.partition(block, -top_k, axis=1)[:, -top_k, None]
    above, level = block > cut, block == cut
    room = top_k - np.count_nonzero(above, axis=1, keepdims=True)  # for entries at the cut, smallest column first
    kept = above | (level & (np.cumsum(level, axis=1) <= room))
    columns = np.nonzero(kept)[1].reshape(len(block), top_k)
    values = np.take_along_axis(block, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    columns, values = np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)
    empty = values <= 0
    columns[empty], values[empty] = 0, 0.0
    return columns.astype(np.int32), values


def strongest_of_sparse(matrix: sparse.csr_array, top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return what `strongest_per_row` returns of the dense matrix; costs what the stored entries cost.

    Args:
        matrix: `[R, N + 1]` float32, no entry stored twice.
        top_k: entries per row, >= 1.
    """
    parts = [_strongest(matrix[start : start + _ROWS], top_k) for start in range(0, matrix.shape[0], _ROWS)]
    return np.concatenate([columns for columns, _ in parts]), np.concatenate([values for _, values in parts])


def _strongest(rows: sparse.csr_array, top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    top_k = min(top_k, rows.shape[1] - 1)
    positive = rows.data > 0
    owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[positive]
    columns, values = rows.indices[positive], rows.data[positive]
    order = np.lexsort((columns, -values, owners))
    owners, columns, values = owners[order], columns[order], values[order]
    places = np.arange(len(owners)) - np.searchsorted(owners, np.arange(rows.shape[0]))[owners]
    kept = places < top_k
    found = np.zeros((rows.shape[0], top_k), dtype=np.int32)
    weights = np.zeros((rows.shape[0], top_k), dtype=np.float32)
    found[owners[kept], places[kept]] = columns[kept]
    weights[owners[kept], places[kept]] = values[kept]
    return found, weights
