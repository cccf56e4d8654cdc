"""What several sources propose for one request, merged into the candidates that are ranked.

Used by serving, and offline where a ranker learns from the candidates it will meet.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Proposal(NamedTuple):
    """What one source proposes, best first.

    Attributes:
        rows: `[P]` int64 distinct item rows >= 1.
        scores: `[P]` float32, non-increasing, on the source's own scale.
    """

    rows: Rows
    scores: NDArray[np.float32]


_NOTHING = Proposal(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
_ZERO = np.zeros(1, dtype=np.int64)


class Merged(NamedTuple):
    """The union of all proposals: C candidates, S sources.

    Attributes:
        rows: `[C]` int64 increasing item rows.
        ranks: `[C, S]` int64, 1 = what the source likes best; its limit + 1 where it did not propose the item.
        scores: `[C, S]` float32; 0 where it did not.
    """

    rows: Rows
    ranks: NDArray[np.int64]
    scores: NDArray[np.float32]

    def only(self, increasing: Rows) -> "Merged":
        """Return the candidates that are among some increasing rows."""
        kept = contained(self.rows, increasing)
        return Merged(self.rows[kept], self.ranks[kept], self.scores[kept])

    def extended(self, rows: Rows, limits: Sequence[int]) -> "Merged":
        """Return the candidates together with further `[X]` rows that no source proposed within its limit."""
        everything = np.union1d(self.rows, rows)
        places = np.searchsorted(everything, self.rows)
        ranks = np.tile(np.asarray(limits, dtype=np.int64) + 1, (len(everything), 1))
        scores = np.zeros(ranks.shape, dtype=np.float32)
        ranks[places], scores[places] = self.ranks, self.scores
        return Merged(everything, ranks, scores)


def merge(proposals: Mapping[Any, Proposal], hidden: Rows, limits: Mapping[Any, int]) -> Merged:
    """Merge what is left of the proposals once hidden items are gone.

    Args:
        proposals: by source; a source that is missing proposed nothing.
        hidden: `[X]` int64 increasing item rows that must not appear; they take no rank.
        limits: source -> how many of its items enter, >= 1; the order of the columns of ranks and scores.
    """
    parts = [proposals.get(source, _NOTHING) for source in limits]
    rows, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    lengths, most = np.array([len(part.rows) for part in parts]), np.array(list(limits.values()))
    visible = ~contained(rows, hidden)
    met = np.concatenate([_ZERO, visible.cumsum()])  # how many visible rows stand before each place
    ranks = met[1:] - met[lengths.cumsum() - lengths].repeat(lengths)
    kept = np.flatnonzero(visible & (ranks <= most.repeat(lengths)))
    rows, columns = rows[kept], np.arange(len(parts)).repeat(lengths)[kept]
    every = distinct(rows)
    places = every.searchsorted(rows)
    all_ranks = np.empty((len(every), len(parts)), dtype=np.int64)
    all_ranks[:] = most + 1
    all_ranks[places, columns] = ranks[kept]
    all_scores = np.zeros(all_ranks.shape, dtype=np.float32)
    all_scores[places, columns] = scores[kept]
    return Merged(every, all_ranks, all_scores)


def best_of(rows: Rows, scores: NDArray[np.float32], count: int) -> Proposal:
    """Return the `count` best of `[P]` distinct items by score; ties go to the smaller row."""
    best = np.lexsort((rows, -scores))[:count]
    return Proposal(rows[best], scores[best])


def contained(rows: Rows, increasing: Rows) -> NDArray[np.bool_]:
    """Tell for each of `[C]` item rows whether it is among increasing ones (`numpy.isin` costs more)."""
    if len(increasing) == 0:
        return np.zeros(len(rows), dtype=bool)
    found: NDArray[np.bool_] = increasing[np.minimum(increasing.searchsorted(rows), len(increasing) - 1)] == rows
    return found


def distinct(rows: NDArray[np.integer]) -> Rows:
    """Return the distinct ones of `[P]` item rows, increasing (`numpy.unique` costs more)."""
    ordered = np.sort(rows).astype(np.int64, copy=False)
    new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]
