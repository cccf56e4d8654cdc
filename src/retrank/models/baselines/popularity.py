"""The same list for everybody: most popular, and most popular lately."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.moments import DAY_US
from retrank.contract.sequences import Sequences


class Popularity:
    """Score of an item = its number of training events.

    Attributes:
        item_scores: `[N + 1]` float32 after `fit`; entry 0 is 0.
    """

    item_scores: NDArray[np.float32]

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Count events per item over U histories."""
        self.item_scores = np.bincount(histories.item_rows, minlength=num_items + 1).astype(np.float32)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the same `[N + 1]` float32 scores for each of B histories, `[B, N + 1]` (a read-only view)."""
        return np.broadcast_to(self.item_scores, (len(histories), len(self.item_scores)))


class DecayedPopularity:
    """Score of an item = sum over its training events of 2^(-age / half-life), age counted back from the last event.

    Args:
        half_life_days: days after which an event counts half, > 0.

    Attributes:
        item_scores: `[N + 1]` float32 after `fit`; entry 0 is 0.

    Source: Yambda (arXiv:2505.22238) has it as a strong baseline under a global temporal split.
    """

    item_scores: NDArray[np.float32]

    def __init__(self, half_life_days: float = 30.0) -> None:
        if half_life_days <= 0:
            raise ConfigError(f"half_life_days is {half_life_days}; expected a number above 0")
        self.half_life_days = half_life_days

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Sum decayed events per item over U histories.

        Raises:
            DataError: the histories have no times.
        """
        if histories.times is None:
            raise DataError("decayed popularity needs event times and this source has none; use plain popularity")
        if len(histories.times) == 0:
            self.item_scores = np.zeros(num_items + 1, dtype=np.float32)
            return
        ages = (histories.times.max() - histories.times) / DAY_US
        weights = np.exp2(-ages / self.half_life_days)
        scores = np.bincount(histories.item_rows, weights=weights, minlength=num_items + 1)
        self.item_scores = scores.astype(np.float32)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the same `[N + 1]` float32 scores for each of B histories, `[B, N + 1]` (a read-only view)."""
        return np.broadcast_to(self.item_scores, (len(histories), len(self.item_scores)))
