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
    parts = [_visible(proposals.get(source), hidden, limit) for source, limit in limits.items()]
    rows = np.unique(np.concatenate([part.rows for part in parts]))
    ranks = np.empty((len(rows), len(parts)), dtype=np.int64)
    scores = np.zeros((len(rows), len(parts)), dtype=np.float32)
    for column, (part, limit) in enumerate(zip(parts, limits.values(), strict=True)):
        places = np.searchsorted(rows, part.rows)
        ranks[:, column] = limit + 1
        ranks[places, column] = np.arange(1, len(part.rows) + 1)
        scores[places, column] = part.scores
    return Merged(rows, ranks, scores)


def best_of(rows: Rows, scores: NDArray[np.float32], count: int) -> Proposal:
    """Return the `count` best of `[P]` distinct items by score; ties go to the smaller row."""
    best = np.lexsort((rows, -scores))[:count]
    return Proposal(rows[best], scores[best])


def contained(rows: Rows, increasing: Rows) -> NDArray[np.bool_]:
    """Tell for each of `[C]` item rows whether it is among increasing ones (`numpy.isin` costs more)."""
    if len(increasing) == 0:
        return np.zeros(len(rows), dtype=bool)
    found = increasing[np.minimum(np.searchsorted(increasing, rows), len(increasing) - 1)] == rows
    return np.asarray(found)


def _visible(proposal: Proposal | None, hidden: Rows, limit: int) -> Proposal:
    if proposal is None:
        return Proposal(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    kept = np.flatnonzero(~contained(proposal.rows, hidden))[:limit]
    return Proposal(proposal.rows[kept], proposal.scores[kept])
