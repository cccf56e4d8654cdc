"""Exact search by matrix product: the oracle that parity, index recall and golden answers are held against."""

import numpy as np
from numpy.typing import NDArray

_SCORES_AT_ONCE = 1 << 24
"""Scores held in memory at a time (64 MiB of float32)."""


def exact_top_k(
    queries: NDArray[np.float32], item_vectors: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k items of highest inner product for each query, best first, ties by the smaller row.

    Args:
        queries: `[B, D]` float32.
        item_vectors: `[N + 1, D]` float32; row 0 is never returned.
        k: 1..N.

    Returns:
        `[B, k]` int64 item rows and `[B, k]` float32 scores.
    """
    num_items = len(item_vectors) - 1
    step = max(1, _SCORES_AT_ONCE // num_items)
    parts = [top_k(queries[at : at + step] @ item_vectors[1:].T, k) for at in range(0, len(queries), step)]
    if not parts:
        return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
    return np.concatenate([rows for rows, _ in parts]) + 1, np.concatenate([scores for _, scores in parts])


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return columns and values of the k largest of each row of `[B, N]` scores, ties by the smaller column."""
    columns = np.sort(np.argpartition(scores, -k, axis=1)[:, -k:], axis=1)  # [B, k]
    chosen = np.take_along_axis(scores, columns, axis=1)
    threshold = chosen.min(axis=1, keepdims=True)
    # argpartition chooses freely among items that tie with the last place; choose the smallest columns instead.
    tied = (scores >= threshold).sum(axis=1) > k
    for row in np.flatnonzero(tied):
        columns[row] = np.sort(np.argsort(-scores[row], kind="stable")[:k])
    chosen = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(chosen, order, axis=1)
