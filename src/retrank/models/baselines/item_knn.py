"""Items met by the same people: item-based nearest neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.interactions import strongest_of_sparse, user_item_matrix

_BLOCK_ROWS = 256


class ItemKNN:
    """Score of item j = sum over the items i of the history of sim(i, j), for the j among the top_k neighbours of i.

    sim(i, j) = users who met both / (sqrt(users of i x users of j) + shrink): cosine, pulled to 0 for rare items.

    Args:
        top_k: neighbours kept per item, >= 1.
        shrink: in users, >= 0.

    Attributes:
        similarities: `[N + 1, N + 1]` float32 CSR after `fit`, at most top_k entries in a row, none on the diagonal.

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms", 2004; shrinkage as in Dacrema et al.,
    "Are we really making much progress?", 2019.
    """

    similarities: sparse.csr_array

    def __init__(self, top_k: int = 100, shrink: float = 10.0) -> None:
        if top_k < 1 or shrink < 0:
            raise ConfigError(f"ItemKNN(top_k={top_k}, shrink={shrink}); expected top_k >= 1 and shrink >= 0")
        self.top_k, self.shrink = top_k, shrink

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Compute neighbours from U histories, a block of items at a time."""
        users_items = user_item_matrix(histories, num_items)
        items_users = sparse.csr_array(users_items.T)
        norms = np.sqrt(np.asarray(users_items.sum(axis=0), dtype=np.float32))
        size = num_items + 1
        parts = []
        for start in range(0, size, _BLOCK_ROWS):
            similar = sparse.csr_array(items_users[start : start + _BLOCK_ROWS] @ users_items, dtype=np.float32)
            owners = np.repeat(np.arange(start, start + similar.shape[0]), np.diff(similar.indptr))
            similar.data /= norms[owners] * norms[similar.indices] + np.float32(self.shrink)
            similar.data[owners == similar.indices] = 0
            parts.append(strongest_of_sparse(similar, self.top_k))
        neighbours = np.concatenate([items for items, _ in parts])
        values = np.concatenate([weights for _, weights in parts])
        offsets = np.arange(0, neighbours.size + 1, neighbours.shape[1])
        self.similarities = sparse.csr_array((values.ravel(), neighbours.ravel(), offsets), shape=(size, size))
        self.similarities.eliminate_zeros()

    def neighbours(self, top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the most similar items of each item, for the bundle; arguments and shapes as for `EASE.neighbours`."""
        return strongest_of_sparse(self.similarities, top_k)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores >= 0; items that neighbour nothing in the history are tied at 0."""
        query = user_item_matrix(histories, self.similarities.shape[0] - 1)
        scores: NDArray[np.float32] = (query @ self.similarities).toarray()
        return scores
