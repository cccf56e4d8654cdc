"""Several scorers as one: a weighted sum of their scores, each made comparable first; weights chosen on validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.metrics.case_ranks import CaseRanks
from retrank.models.protocols import Scorer

_SELECTED_BY = "ndcg@10"
_SHORTLIST = 100
_ROUNDS = 20
_BATCH = 256


class Blended:
    """The weighted sum of several scorers' standardised scores; a `Scorer` itself.

    Args:
        scorers: M scorers of one catalogue.
        weights: `[M]`, >= 0; a scorer of weight 0 is not asked.
    """

    def __init__(self, scorers: Sequence[Scorer], weights: Sequence[float]) -> None:
        self.asked = [(scorer, weight) for scorer, weight in zip(scorers, weights, strict=True) if weight > 0]

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; column 0 is -inf."""
        first, *others = (np.float32(weight) * standardised(scorer.score(histories)) for scorer, weight in self.asked)
        for scores in others:
            first += scores
        first[:, 0] = -np.inf
        return first


def standardised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `[B, N + 1]` scores with mean 0 and deviation 1 over the items of each case; column 0 is 0.

    An item that a scorer cannot recommend at all (-inf) counts as much as its worst one, so that others may still
    propose it. Equal scores all become 0.
    """
    items = scores[:, 1:]
    known = np.isfinite(items)
    worst = np.where(known, items, np.inf).min(axis=1, keepdims=True)
    filled = np.where(known, items, np.where(np.isfinite(worst), worst, 0)).astype(np.float32)
    centred = filled - filled.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    result = np.zeros_like(scores)
    np.divide(centred, deviation, out=result[:, 1:], where=deviation > np.finfo(np.float32).tiny)
    return result


@dataclass(frozen=True)
class Choice:
    """What validation chose.

    Attributes:
        weights: `[M]`, sum 1.
        alone: `[M]` NDCG@10 of each scorer.
        together: NDCG@10 of the blend.
    """

    weights: list[float]
    alone: list[float]
    together: float


def choose_weights(scorers: Sequence[Scorer], cases: Cases) -> Choice:
    """Build the blend up, scorer by scorer, always adding the one that helps NDCG@10 on the cases most.

    A scorer may be added again, so that weights are counts out of 20 at most; the best state on the way is kept. It
    starts from the best scorer, so a blend never looks worse than its best member. Each scorer puts up its 100 best
    items per case, and targets are ranked among these; the items further down do not reach a list of ten.

    Args:
        scorers: M scorers of one catalogue.
        cases: validation cases.

    Source: Caruana et al. 2004 (ICML, "Ensemble selection from libraries of models").
    """
    shortlists = [
        _Shortlist.of(scorers, cases.take(np.arange(start, min(start + _BATCH, len(cases)))))
        for start in range(0, len(cases), _BATCH)
    ]
    counts = np.zeros(len(scorers), dtype=np.int64)
    alone: list[float] = []
    best, best_counts = -np.inf, counts
    for _ in range(_ROUNDS):
        tried = [_quality(shortlists, counts + one, cases) for one in np.eye(len(scorers), dtype=np.int64)]
        alone = alone or tried
        counts = counts + np.eye(len(scorers), dtype=np.int64)[int(np.argmax(tried))]
        if max(tried) > best:
            best, best_counts = max(tried), counts
    return Choice((best_counts / best_counts.sum()).tolist(), alone, float(best))


@dataclass(frozen=True)
class _Shortlist:
    """What M scorers think of the items that one of them ranks high, and of the targets, for B cases.

    Attributes:
        rows: `[B, S]` int32 item rows, each once per case; 0 = none.
        scores: `[M, B, S]` float32, standardised.
        owners: `[T]` int64 case of each target.
        target_rows: `[T]` int32.
        target_scores: `[M, T]` float32.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    owners: NDArray[np.int64]
    target_rows: NDArray[np.int32]
    target_scores: NDArray[np.float32]

    @classmethod
    def of(cls, scorers: Sequence[Scorer], cases: Cases) -> "_Shortlist":
        scores = np.stack([standardised(scorer.score(cases.inputs)) for scorer in scorers])  # [M, B, N + 1]
        seen_by, owners = (np.repeat(np.arange(len(cases)), part.lengths) for part in (cases.inputs, cases.targets))
        left = scores.copy()
        left[:, :, 0] = -np.inf
        left[:, seen_by, cases.inputs.item_rows] = -np.inf
        left[:, owners, cases.targets.item_rows] = scores[:, owners, cases.targets.item_rows]
        size = min(_SHORTLIST, left.shape[2] - 1)
        best = np.argpartition(left, -size, axis=2)[:, :, -size:]
        rows = np.sort(np.concatenate(list(best), axis=1), axis=1).astype(np.int32)  # [B, M * size]
        hidden = np.take_along_axis(left[0], rows, axis=1) == -np.inf
        hidden[:, 1:] |= rows[:, 1:] == rows[:, :-1]
        rows[hidden] = 0
        targets = cases.targets.item_rows
        kept = np.take_along_axis(scores, np.broadcast_to(rows, (len(scores), *rows.shape)), axis=2)
        return cls(rows, kept, owners, targets, scores[:, owners, targets])

    def ranks(self, counts: NDArray[np.int64]) -> NDArray[np.int32]:
        """Rank each target among the shortlist of its case, behind what ties with it."""
        items, targets = np.zeros_like(self.scores[0]), np.zeros_like(self.target_scores[0])
        for scorer, count in enumerate(counts.tolist()):
            items += np.float32(count) * self.scores[scorer]
            targets += np.float32(count) * self.target_scores[scorer]
        others = self.rows[self.owners]
        ahead = (items[self.owners] >= targets[:, None]) & (others > 0) & (others != self.target_rows[:, None])
        ranks: NDArray[np.int32] = (1 + ahead.sum(axis=1)).astype(np.int32)
        return ranks


def _quality(shortlists: Sequence[_Shortlist], counts: NDArray[np.int64], cases: Cases) -> float:
    ranks = np.concatenate([shortlist.ranks(counts) for shortlist in shortlists])
    targets = cases.targets
    return CaseRanks(cases.users, targets.offsets, targets.item_rows, ranks, num_items=0).mean((10,))[_SELECTED_BY]
