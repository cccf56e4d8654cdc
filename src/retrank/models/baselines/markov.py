"""What tends to follow what: a decayed Markov chain over the last few events. No learning, seconds to fit."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.interactions import strongest_of_sparse


class Markov:
    """Count item j after item i at distance g = 1..max_distance with weight 1 / g and divide each row by its sum.

    A history scores j by the sum over its last `num_recent` events of decay^age times the entry (event, j), where the
    newest event has age 0. An item never counts as its own successor, since what was seen is not recommended.

    Args:
        max_distance: how many places after i still count, >= 1.
        num_recent: events of the query that take part, >= 1.
        decay: weight ratio of an event to the next newer one, in (0, 1].

    Attributes:
        transitions: `[N + 1, N + 1]` float32 CSR after `fit`; rows sum to 1, or to 0 for items nothing ever follows.
    """

    transitions: sparse.csr_array

    def __init__(self, max_distance: int = 10, num_recent: int = 10, decay: float = 0.7) -> None:
        if max_distance < 1 or num_recent < 1 or not 0 < decay <= 1:
            raise ConfigError(
                f"Markov(max_distance={max_distance}, num_recent={num_recent}, decay={decay}); "
                "expected max_distance and num_recent of at least 1 and decay in (0, 1]"
            )
        self.max_distance, self.num_recent, self.decay = max_distance, num_recent, decay

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Count transitions over U histories, one distance at a time."""
        shape = (num_items + 1, num_items + 1)
        owner = np.repeat(np.arange(len(histories), dtype=np.int32), histories.lengths)
        counts = sparse.csr_array(shape, dtype=np.float32)
        for distance in range(1, self.max_distance + 1):
            before, after = histories.item_rows[:-distance], histories.item_rows[distance:]
            valid = (owner[:-distance] == owner[distance:]) & (before != after)
            weights = np.full(np.count_nonzero(valid), 1 / distance, dtype=np.float32)
            counts += sparse.csr_array((weights, (before[valid], after[valid])), shape=shape)
        sums = counts.sum(axis=1)
        scale = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
        self.transitions = sparse.csr_array(sparse.diags_array(scale, dtype=np.float32) @ counts)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores >= 0; items that never followed are tied at 0."""
        lengths = np.minimum(histories.lengths, self.num_recent)
        recent = histories.slices(histories.offsets[1:] - lengths, histories.offsets[1:])
        age = np.repeat(recent.offsets[1:], lengths) - 1 - np.arange(len(recent.item_rows))
        weights = np.power(np.float32(self.decay), age.astype(np.float32))
        shape = (len(histories), self.transitions.shape[0])
        query = sparse.csr_array((weights, recent.item_rows, recent.offsets), shape=shape)
        scores: NDArray[np.float32] = (query @ self.transitions).toarray()
        return scores

    def successors(self, top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the strongest successors of every item, for the bundle.

        Args:
            top_k: successors per item, >= 1.

        Returns:
            `[N + 1, K]` int32 item rows and `[N + 1, K]` float32 weights with K = min(top_k, N), strongest first, equal
            weights by item row; 0 and 0.0 where an item has fewer.
        """
        return strongest_of_sparse(self.transitions, top_k)
