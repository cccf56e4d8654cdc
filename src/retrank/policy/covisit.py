"""Co-visitation: what people usually turn to next, read from precomputed successor lists.

A successor list holds the K strongest followers of an item with their weights. The weight of a link is stated as a
share of the strongest link of the same list, so it lies in 0..1 whatever the lists were counted in.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

AGE_DECAY = 0.7
"""Weight of an event relative to the next newer one."""


class Successors(NamedTuple):
    """Successor lists of the whole catalogue.

    Attributes:
        items: `[N + 1, K]` int32 item rows, strongest first, 0 = none.
        weights: `[N + 1, K]` float32, non-increasing along K.
    """

    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    def shares(self, anchors: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return `[A, K]` float32 link weights of A anchors as shares of each anchor's strongest link, 0..1."""
        weights = np.asarray(self.weights[anchors], dtype=np.float32)
        strongest = weights[:, :1]
        shares: NDArray[np.float32] = np.divide(weights, strongest, out=np.zeros_like(weights), where=strongest > 0)
        return np.minimum(np.maximum(shares, 0.0, out=shares), 1.0, out=shares)


def followers(
    history: NDArray[np.integer], successors: Successors, *, window: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score what usually follows the newest events of a history.

    Args:
        history: `[H]` item rows, oldest first.
        successors: the successor lists.
        window: how many of the newest events count, >= 1.

    Returns:
        Distinct item rows `[C]` int64 in increasing order, and their scores `[C]` float32: the sum of link shares,
        each event weighted by `AGE_DECAY` per step back and the weights summing to 1, so scores lie in 0..1.
    """
    anchors = history[-window:]
    weights = AGE_DECAY ** np.arange(len(anchors) - 1, -1, -1)
    shares = successors.shares(anchors) * (weights / weights.sum())[:, None]  # [A, K]
    linked = np.asarray(successors.items[anchors])
    real = linked > 0
    rows, shares = linked[real], shares[real]
    order = rows.argsort(kind="stable")
    rows = rows[order]
    new = np.ones(len(rows), dtype=bool)
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    scores = np.bincount(new.cumsum() - 1, weights=shares[order])  # as many as there are distinct rows
    return rows[new].astype(np.int64), scores.astype(np.float32)
