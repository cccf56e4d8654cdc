"""Ranks and best lists of many cases straight from float scores; keys are made only where scores tie.

`ranking.py` turns every score into a 64-bit key and compares keys. That is the readable way, and the oracle of this one
in the tests; here each score is read a few times while it is in cache:

- the k-th greatest of the maxima of blocks of items is a bound that the k best items reach and few others do;
- a target's rank is the number of greater scores, plus equal ones whose tie key is greater.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.metrics.ranking import UNRANKED, keys_of, ranks_of, refuse_not_finite, sort_keys, top_items

_VALUES_IN_CACHE = 1 << 18  # a megabyte of scores, the second-level cache of a core
_BLOCKS_PER_PLACE = 10
_CROWD = 8
_LOWEST = np.finfo(np.float32).min
Pairs = tuple[NDArray[np.integer], NDArray[np.integer]]
"""(case in the batch, item row), two arrays of equal length, ordered by case."""


class Ranking(NamedTuple):
    """What follows from the scores of B cases with T targets.

    Attributes:
        ranks: `[T]` int32 ranks 1..N, or `UNRANKED`.
        best: `[B, min(top_k, N)]` int32 item rows, best first; 0 where nothing is left to recommend.
    """

    ranks: NDArray[np.int32]
    best: NDArray[np.int32]


def rank_block(
    scores: NDArray[np.float32], users: NDArray[np.int64], *, seen: Pairs, targets: Pairs, top_k: int
) -> Ranking:
    """Rank all items for each case; seen items are left out, targets never. Tie policy: see `ranking`.

    Args:
        scores: `[B, N + 1]` float32, not changed; -inf marks items that cannot be recommended, column 0 is ignored.
        users: `[B]` int64 user positions; they only choose the order of tied items.
        seen: items that a case has seen.
        targets: items whose ranks are wanted.
        top_k: length of the best lists, >= 1.

    Raises:
        DataError: a score is NaN or +inf.
    """
    height = max(1, _VALUES_IN_CACHE // scores.shape[1])
    parts = []
    for start in range(0, len(scores), height):
        stop = min(start + height, len(scores))
        part_seen, part_targets = (_between(pairs, start, stop) for pairs in (seen, targets))
        left = _left(scores[start:stop], part_seen, part_targets, top_k, first_case=start)
        parts.append(_rank(left, users[start:stop], part_targets, scores.shape[1] - 1, top_k))
    return Ranking(np.concatenate([part.ranks for part in parts]), np.concatenate([part.best for part in parts]))


def _between(pairs: Pairs, start: int, stop: int) -> Pairs:
    low, high = np.searchsorted(pairs[0], [start, stop])
    return pairs[0][low:high] - start, pairs[1][low:high]


def _left(
    scores: NDArray[np.float32], seen: Pairs, targets: Pairs, top_k: int, *, first_case: int
) -> NDArray[np.float32]:
    """Copy `[B, N + 1]` scores to `[B, depth, blocks]`, -inf where an item is seen or there is none; order is kept.

    Column c of the catalogue stands in block `c % blocks`, so that maxima of blocks are taken along whole rows.
    """
    width = scores.shape[1]
    depth = max(1, width // (_BLOCKS_PER_PLACE * top_k))
    blocks = -(-width // depth)
    left = np.empty((len(scores), depth * blocks), dtype=np.float32)
    left[:, :width] = scores
    left[:, width:] = left[:, 0] = -np.inf
    hidden, kept = left[seen], left[targets]
    left[seen] = -np.inf
    left[targets] = kept
    if not (left.max() < np.inf and (hidden < np.inf).all()):
        refuse_not_finite(scores, first_case)
    return left.reshape(len(left), depth, blocks)


def _rank(left: NDArray[np.float32], users: NDArray[np.int64], targets: Pairs, num_items: int, top_k: int) -> Ranking:
    maxima = left.max(axis=1)
    place = maxima.shape[1] - min(top_k, num_items)
    bound = np.partition(maxima, place, axis=1)[:, place]
    flat = left.reshape(len(left), -1)
    return Ranking(_ranks(flat, users, targets, num_items), _best(flat, users, bound, num_items, min(top_k, num_items)))


def _ranks(left: NDArray[np.float32], users: NDArray[np.int64], targets: Pairs, num_items: int) -> NDArray[np.int32]:
    cases, items = targets
    own = left[cases, items]
    rows = left if len(cases) == len(left) and (cases == np.arange(len(left))).all() else left[cases]
    ranks = 1 + _count(rows > own[:, None])
    equal = _count(rows >= own[:, None]) - ranks  # beside itself
    ranks[own == -np.inf] = UNRANKED
    tied = np.flatnonzero((equal > 0) & (own > -np.inf))
    if len(tied):
        keys = sort_keys(rows[tied, : num_items + 1], users[cases[tied]])
        ranks[tied] = ranks_of(keys, (np.arange(len(tied)), items[tied]))
    return ranks


def _best(
    left: NDArray[np.float32], users: NDArray[np.int64], bound: NDArray[np.float32], num_items: int, top_k: int
) -> NDArray[np.int32]:
    reached = left >= np.maximum(bound, _LOWEST)[:, None]
    counts = _count(reached)
    crowded = counts > _CROWD * top_k
    reached[crowded] = False
    counts[crowded] = 0
    cases = np.repeat(np.arange(len(left)), counts)
    items = np.flatnonzero(reached) - cases * left.shape[1]  # nonzero is slow in 2-D
    filled = np.arange(max(top_k, int(counts.max(initial=0)))) < counts[:, None]
    keys = np.full(filled.shape, np.iinfo(np.int64).min)
    rows = np.zeros(filled.shape, dtype=np.int32)
    keys[filled] = keys_of(left[cases, items], users[cases], items)
    rows[filled] = items
    best: NDArray[np.int32] = np.take_along_axis(rows, np.argsort(keys, axis=1)[:, : -top_k - 1 : -1], axis=1)
    if crowded.any():  # many items share a score, such as those that nobody ever met
        best[crowded] = top_items(sort_keys(left[crowded, : num_items + 1], users[crowded]), top_k)
    return best


def _count(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the set flags of each row; row by row is twice as fast as along an axis."""
    return np.array([np.count_nonzero(row) for row in flags], dtype=np.int32)
