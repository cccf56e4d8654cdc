"""Why an item is on a slate: the strongest evidence for it in the history. Pure functions on arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.policy.covisit import Successors


class Evidence(NamedTuple):
    """For each of S slate items the history event that supports it most.

    Attributes:
        anchors: `[S]` int64 item rows out of the history; 0 = no support.
        weights: `[S]` float32 strength in 0..1.
    """

    anchors: NDArray[np.int64]
    weights: NDArray[np.float32]


def nothing(size: int) -> Evidence:
    """Return no support for `size` items."""
    return Evidence(np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.float32))


def follows(slate: NDArray[np.integer], history: NDArray[np.integer], successors: Successors) -> Evidence:
    """Find the history item that each slate item follows most strongly.

    Args:
        slate: `[S]` item rows.
        history: `[H]` item rows, oldest first; of equal links the newest event wins.
        successors: the successor lists.
    """
    if len(history) == 0:
        return nothing(len(slate))
    newest_first = history[::-1]
    linked = np.asarray(successors.items[newest_first])  # [H, K]
    hits = np.flatnonzero(slate.astype(linked.dtype)[:, None] == linked.ravel())  # few links lead to the slate
    positions, events, links = np.unravel_index(hits, (len(slate), *linked.shape))
    shares = successors.shares(newest_first[events])[np.arange(len(events)), links]
    support = np.zeros((len(slate), len(history)), dtype=np.float32)
    np.maximum.at(support, (positions, events), shares)
    return _strongest(support, newest_first)


def similar(
    slate: NDArray[np.integer],
    history: NDArray[np.integer],
    slate_vectors: NDArray[np.float32],
    history_vectors: NDArray[np.float32],
) -> Evidence:
    """Find the history item whose vector is closest to each slate item's, by cosine clipped to 0..1.

    Args:
        slate: `[S]` item rows.
        history: `[H]` item rows, oldest first; of equal similarities the newest event wins.
        slate_vectors: `[S, D]` float32 vectors of the slate.
        history_vectors: `[H, D]` float32 vectors of the history.
    """
    if len(history) == 0:
        return nothing(len(slate))
    newest_first = history[::-1]
    left, right = slate_vectors, history_vectors[::-1]
    lengths = _lengths(left)[:, None] * _lengths(right)
    support = np.divide(left @ right.T, lengths, out=np.zeros(lengths.shape, np.float32), where=lengths > 0)
    support[slate[:, None] == newest_first] = 0.0  # that it was seen before is no reason
    return _strongest(np.minimum(np.maximum(support, 0.0), 1.0), newest_first)


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `[S, H]` float32 cosines between the rows of `[S, D]` and `[H, D]`; a zero vector is like nothing.

    Each pair is added up alike, so that a score does not depend on its neighbours.
    """
    products = np.einsum("sd,hd->sh", left, right)
    lengths = np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    found: NDArray[np.float32] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths


def _strongest(support: NDArray[np.floating], newest_first: NDArray[np.integer]) -> Evidence:
    best = support.argmax(axis=1)
    weights = support[np.arange(len(support)), best].astype(np.float32)
    return Evidence(np.where(weights > 0, newest_first[best], 0).astype(np.int64), weights)
