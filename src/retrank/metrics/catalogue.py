"""What a recommender does to the catalogue: how much of it is shown, how evenly, and how well known it was already.

All functions take counts per item row, `[N + 1]`; entry 0 (padding) is ignored.
"""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences

Counts = NDArray[np.int64]


def item_counts(histories: Sequences, num_items: int) -> Counts:
    """Events per item row, `[N + 1]` int64.

    Raises:
        DataError: a history holds an item row above `num_items`.
    """
    counts = np.bincount(histories.item_rows, minlength=num_items + 1)
    if len(counts) > num_items + 1:
        raise DataError(f"item row {len(counts) - 1} in the histories, but the catalogue ends at {num_items}")
    return counts.astype(np.int64)


def coverage(shown: Counts) -> float:
    """Share of the catalogue that was recommended to anyone, 0..1."""
    return float(np.count_nonzero(shown[1:]) / (len(shown) - 1))


def gini(shown: Counts) -> float:
    """Gini coefficient of how often items were recommended: 0 = all equally often, towards 1 = always the same few.

    Items that were never recommended take part. 0 when nothing was recommended.
    """
    counts = np.sort(shown[1:]).astype(np.float64)
    total = counts.sum()
    if total == 0:
        return 0.0
    size = len(counts)
    return float(((2 * np.arange(1, size + 1) - size - 1) @ counts) / (size * total))


def novelty(shown: Counts, train_counts: Counts) -> float:
    """Mean self-information in bits of a recommended item: -log2 of its share of the training events.

    Each item counts as having one event more than it has, so that an unseen item is novel but not infinitely so.
    Source: Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", 2010.
    """
    if shown[1:].sum() == 0:
        return 0.0
    seen = train_counts[1:].astype(np.float64) + 1
    return float(np.average(-np.log2(seen / seen.sum()), weights=shown[1:]))


def popularity_lift(shown: Counts, consumed: Counts, train_counts: Counts) -> float:
    """How much more popular recommended items are than the items people had consumed: 0 = alike, 1 = twice as popular.

    Popularity of an item is its number of training events; 0 when either side is empty.
    Source: Abdollahpouri et al., "The connection between popularity bias, calibration, and fairness in
    recommendation", 2020; averaged over events here, not first within each user.

    Args:
        shown: `[N + 1]` how often each item was recommended.
        consumed: `[N + 1]` how often each item occurs in the histories that were served.
        train_counts: `[N + 1]` training events of each item.
    """
    if shown[1:].sum() == 0 or consumed[1:] @ train_counts[1:] == 0:
        return 0.0
    recommended = np.average(train_counts[1:], weights=shown[1:])
    usual = np.average(train_counts[1:], weights=consumed[1:])
    return float(recommended / usual - 1)
