"""What is known of every item without a model: how popular, how recent, and its numbers such as the price."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.moments import DAY_US
from retrank.contract.sequences import Sequences

_FIXED = 4


class ItemFacts(NamedTuple):
    """Facts of N items as one table, so that serving maps it into memory.

    Attributes:
        table: `[N + 1, 4 + K]` float32: share of the most popular item's events; the same with recent events counting
            more; day of the first and of the last event (days since 1970, NaN without events); then K numbers of the
            item, NaN where unknown.
        numbers: names of the K numbers.
    """

    table: NDArray[np.float32]
    numbers: tuple[str, ...]

    @property
    def popularity(self) -> NDArray[np.float32]:
        """`[N + 1]` float32 share of the most popular item's events, 0..1."""
        return self.table[:, 0]

    @property
    def recent_popularity(self) -> NDArray[np.float32]:
        """`[N + 1]` float32, as `popularity` with old events discounted, 0..1."""
        return self.table[:, 1]

    @property
    def first_day(self) -> NDArray[np.float32]:
        """`[N + 1]` float32 day of the first event since 1970; NaN without events."""
        return self.table[:, 2]

    def trending(self) -> NDArray[np.int64]:
        """Return all items with an event, those liked most recently first, ties by row."""
        rows = np.flatnonzero(self.recent_popularity > 0)
        return rows[np.argsort(-self.recent_popularity[rows], kind="stable")]

    def fresh(self, days: float) -> NDArray[np.int64]:
        """Return the items first met within the last `days`, those liked most recently first, ties by row."""
        newest = np.nanmax(self.first_day) if np.isfinite(self.first_day).any() else np.float32(0)
        rows = np.flatnonzero(self.first_day >= newest - np.float32(days))
        return rows[np.argsort(-self.recent_popularity[rows], kind="stable")]


def item_facts(
    histories: Sequences, num_items: int, *, half_life_days: float, numbers: Mapping[str, NDArray[np.float32]]
) -> ItemFacts:
    """Count the facts of N items over U histories.

    Args:
        histories: events up to the moment the facts are for; they must have times.
        num_items: catalogue size N.
        half_life_days: age, back from the last event of all, at which an event counts half for recent popularity; > 0.
        numbers: name -> `[N + 1]` float32 values of the items, NaN where unknown.

    Raises:
        DataError: the histories have no times.
    """
    if histories.times is None:
        raise DataError("a ranker needs event times and this store has none; ingest a source with a time column")
    rows, days = np.asarray(histories.item_rows), histories.times / DAY_US
    weights = np.exp2((days - days.max(initial=0)) / half_life_days)
    first, last = np.full(num_items + 1, np.inf), np.full(num_items + 1, -np.inf)
    np.minimum.at(first, rows, days)
    np.maximum.at(last, rows, days)
    table = np.empty((num_items + 1, _FIXED + len(numbers)), dtype=np.float32)
    table[:, 0] = _share(np.bincount(rows, minlength=num_items + 1))
    table[:, 1] = _share(np.bincount(rows, weights=weights, minlength=num_items + 1))
    table[:, 2], table[:, 3] = first, last
    for column, values in enumerate(numbers.values(), start=_FIXED):
        table[:, column] = values
    table[~np.isfinite(table)] = np.nan
    return ItemFacts(table, tuple(numbers))


def _share(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    shares = counts.astype(np.float64)
    return shares / max(float(shares.max(initial=0)), 1e-12)
