"""Ranks and list members of many cases straight from float scores; keys are made only where scores tie.

`ranking.py` turns every score into a 64-bit key and compares keys. That is the readable way, and the oracle of this one
in the tests; here no list is sorted and no score copied:

- a target's rank is the number of greater scores, plus equal ones whose tie key is greater;
- the k-th greatest of the maxima of groups of items is a bound that the k best items reach and few others do; the k-th
  greatest score of those few says which of them are in the list.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.metrics.ranking import UNRANKED, ranks_of, refuse_not_finite, sort_keys, top_items

_VALUES_AT_ONCE = 1 << 20  # of scores: four megabytes, which stay in the third-level cache
_GROUPS_PER_PLACE = 10
_CROWD = 8
_LOWEST = np.finfo(np.float32).min
Pairs = tuple[NDArray[np.integer], NDArray[np.integer]]
"""(case in the batch, item row), two arrays of equal length, ordered by case."""


class Ranking(NamedTuple):
    """What follows from the scores of B cases with T targets.

    Attributes:
        ranks: `[T]` int32 ranks 1..N, or `UNRANKED`.
        listed: per list length k the int64 item rows in the lists of all cases, in no order; a list is shorter than k
            where less is left to recommend.
    """

    ranks: NDArray[np.int32]
    listed: list[NDArray[np.int64]]


def rank_block(
    scores: NDArray[np.float32],
    users: NDArray[np.int64],
    *,
    seen: Pairs,
    targets: Pairs,
    top_ks: tuple[int, ...],
    executor: Executor | None = None,
) -> Ranking:
    """Rank all items for each case; seen items are left out, targets never. Tie policy: see `ranking`.

    Args:
        scores: `[B, N + 1]` float32; -inf marks items that cannot be recommended, column 0 is ignored. Written to
            while ranking, if that is allowed, and as before afterwards.
        users: `[B]` int64 user positions; they only choose the order of tied items.
        seen: items that a case has seen.
        targets: items whose ranks are wanted.
        top_ks: lengths of lists, each >= 1.
        executor: its threads share the cases; None = the calling thread ranks all.

    Raises:
        DataError: a score is NaN or +inf.
    """
    if not (scores.flags.writeable and scores.flags.c_contiguous):
        scores = scores.copy()
    height = max(1, _VALUES_AT_ONCE // scores.shape[1])
    run: Callable[..., Iterable[Ranking]] = map if executor is None else executor.map
    rank = partial(_rank_from, scores=scores, users=users, seen=seen, targets=targets, top_ks=top_ks, height=height)
    parts = list(run(rank, range(0, len(scores), height)))
    listed = [np.concatenate(lists) for lists in zip(*(part.listed for part in parts), strict=True)]
    return Ranking(np.concatenate([part.ranks for part in parts]), listed)


def _rank_from(
    start: int,
    *,
    scores: NDArray[np.float32],
    users: NDArray[np.int64],
    seen: Pairs,
    targets: Pairs,
    top_ks: tuple[int, ...],
    height: int,
) -> Ranking:
    """Rank for `height` cases."""
    part = slice(start, start + height)
    left, users = scores[part], users[part]
    seen, targets = (_between(pairs, start, start + height) for pairs in (seen, targets))
    with _seen_left_out(left, seen, targets) as hidden:
        maxima = _maxima(left, max(top_ks))
        if maxima.max() < np.inf and (hidden < np.inf).all():
            place = maxima.shape[1] - min(max(top_ks), left.shape[1] - 1)
            bound = np.partition(maxima, place, axis=1)[:, place]
            return Ranking(_ranks(left, users, targets), _listed(left, users, bound, top_ks))
    refuse_not_finite(left, start)
    raise AssertionError("a maximum was not finite and no score is")


def _between(pairs: Pairs, start: int, stop: int) -> Pairs:
    low, high = np.searchsorted(pairs[0], [start, stop])
    return pairs[0][low:high] - start, pairs[1][low:high]


@contextmanager
def _seen_left_out(scores: NDArray[np.float32], seen: Pairs, targets: Pairs) -> Iterator[NDArray[np.float32]]:
    """Put -inf in place of `[B, N + 1]` scores of seen items and in column 0 for a while; yield what stood there."""
    flat, (at_seen, at_target) = scores.reshape(-1), (_places(pairs, scores.shape[1]) for pairs in (seen, targets))
    first, hidden, kept = scores[:, 0].copy(), flat[at_seen], flat[at_target]
    scores[:, 0] = flat[at_seen] = -np.inf
    flat[at_target] = kept
    try:
        yield hidden
    finally:
        flat[at_seen], scores[:, 0] = hidden, first


def _places(pairs: Pairs, width: int) -> NDArray[np.int64]:
    """Return where the pairs stand in the flattened `[B, width]` scores."""
    return np.asarray(pairs[0], dtype=np.int64) * width + pairs[1]


def _maxima(scores: NDArray[np.float32], top_k: int) -> NDArray[np.float32]:
    """Return `[B, G]` maxima of G >= top_k groups of items, or all scores where there are fewer items than that.

    Item i stands in group `i % G`, so that maxima are taken along whole rows; what is left over are groups of one.
    """
    width = scores.shape[1]
    depth = max(1, width // (_GROUPS_PER_PLACE * top_k))
    groups = width // depth
    maxima = np.empty((len(scores), groups + width % depth), dtype=np.float32)
    scores[:, : depth * groups].reshape(len(scores), depth, groups).max(axis=1, out=maxima[:, :groups])
    maxima[:, groups:] = scores[:, depth * groups :]
    return maxima


def _ranks(left: NDArray[np.float32], users: NDArray[np.int64], targets: Pairs) -> NDArray[np.int32]:
    cases, items = targets
    own = left[cases, items]
    rows = left if len(cases) == len(left) and (cases == np.arange(len(left))).all() else left[cases]
    greater = rows > own[:, None]
    ranks = 1 + _count(greater)
    reached = rows >= own[:, None]
    if np.count_nonzero(reached) > np.count_nonzero(greater) + len(own):  # something ties with a target
        tied = np.flatnonzero((_count(reached) > ranks) & (own > -np.inf))
        keys = sort_keys(rows[tied], users[cases[tied]])
        ranks[tied] = ranks_of(keys, (np.arange(len(tied)), items[tied]))
    ranks[own == -np.inf] = UNRANKED
    return ranks


def _listed(
    left: NDArray[np.float32], users: NDArray[np.int64], bound: NDArray[np.float32], top_ks: tuple[int, ...]
) -> list[NDArray[np.int64]]:
    """Find the items of the lists among those that reach the bound, of which there are enough for the longest list."""
    reached = left >= np.maximum(bound, _LOWEST)[:, None]
    most = _CROWD * max(top_ks)
    crowded = np.zeros(len(left), dtype=bool)
    if np.count_nonzero(reached) > 2 * max(top_ks) * len(left):
        crowded = _count(reached) > most  # many items share a score, such as those that nobody ever met
        reached[crowded] = False
    places = np.flatnonzero(reached)  # slow in 2-D
    counts = np.diff(np.searchsorted(places, np.arange(len(left) + 1) * left.shape[1]))
    cases = np.repeat(np.arange(len(left)), counts)
    items, values = places - cases * left.shape[1], left.reshape(-1)[places]
    table = np.full((len(left), max(int(counts.max(initial=0)), *top_ks)), -np.inf, dtype=np.float32)
    table[np.arange(table.shape[1]) < counts[:, None]] = values
    listed = []
    for top_k in top_ks:
        least = np.partition(table, -top_k, axis=1)[:, -top_k]
        chosen = values >= least[cases]
        tied = crowded | (np.bincount(cases[chosen], minlength=len(left)) > top_k)
        if tied.any():
            best = top_items(sort_keys(left[tied], users[tied]), top_k)
            listed.append(np.r_[items[chosen & ~tied[cases]], best[best > 0]])
        else:
            listed.append(items[chosen])
    return listed


def _count(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Count the set flags of each row; row by row is twice as fast as along an axis."""
    return np.array([np.count_nonzero(row) for row in flags], dtype=np.int32)
