"""Which item of the bundle stands in for a new one wherever a history is read.

Query encoder, co-visitation and ranker know items by their rows in the bundle; of a new item there is no more than a
vector. What a person did with it is read as if it had been done with the item whose vector points most nearly there.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrank.policy.explain import cosines

PROPOSED = 20
"""Items that the index proposes by inner product; of these the cosine decides, so that long vectors do not."""


class Index(Protocol):
    """The index over the items of a bundle."""

    def search(self, query: NDArray[np.float32], count: int, /) -> NDArray[np.int64]:
        """Return up to `count` item rows with the largest inner products."""
        ...


class StandIns:
    """Finds them by a search of the index for each, never in a request."""

    def __init__(self, index: Index, item_vectors: NDArray[np.float32]) -> None:
        """Search one bundle.

        Args:
            index: over its items.
            item_vectors: `[N + 1, D]` float32, row 0 is zero; N >= 1.
        """
        self._index, self._item_vectors = index, item_vectors

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return `[M]` int64 rows in 1..N for `[M, D]` float32 vectors of M new items; of equals the smaller row."""
        return np.array([self._nearest(vector) for vector in vectors], dtype=np.int64)

    def _nearest(self, vector: NDArray[np.float32]) -> int:
        rows = np.sort(self._index.search(vector, PROPOSED))
        if len(rows) == 0:  # inverted lists may be empty where the search looked
            rows = np.arange(1, len(self._item_vectors))
        return int(rows[cosines(self._item_vectors[rows], vector[None])[:, 0].argmax()])
