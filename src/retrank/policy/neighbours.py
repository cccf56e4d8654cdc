"""Neighbours: what people with such a history, as a set, also have; read from precomputed lists."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.proposals import Proposal, best_of


def neighbours(
    history: NDArray[np.integer], items: NDArray[np.int32], weights: NDArray[np.float32], count: int
) -> Proposal:
    """Add up the lists of all distinct items of a history.

    Args:
        history: `[H]` item rows.
        items: `[N + 1, K]` int32 neighbours of each item, 0 = none.
        weights: `[N + 1, K]` float32, > 0 where there is a neighbour.
        count: items proposed, >= 1.
    """
    distinct = np.unique(history)
    linked = np.asarray(items[distinct])
    real = linked > 0
    rows, place = np.unique(linked[real], return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(weights[distinct])[real], minlength=len(rows))
    return best_of(rows.astype(np.int64), sums.astype(np.float32), count)
