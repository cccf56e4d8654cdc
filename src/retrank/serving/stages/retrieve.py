"""Retrieve: the sources that propose candidates, over-fetching for what the filter will remove.

Order is the ladder: the sequence model and co-visitation propose side by side; popularity fills up whatever is missing,
which is everything for somebody without a history, or when the sources above failed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.contract.proposals import Proposal, best_of
from retrank.policy.covisit import Successors, followers
from retrank.policy.explain import cosines
from retrank.serving.draft import Draft
from retrank.serving.new_rows import vectors_of
from retrank.serving.pipeline import Step
from retrank.serving.runtime import ItemIndex, QueryEncoder

COMPARE_ALL_UP_TO = 100_000
"""Catalogue size up to which an item is compared with every other to find the similar ones."""


class _FromHistory:
    """What the sources that start from a history have in common."""

    step: Step = "retrieve"
    num_candidates: int

    def applies(self, draft: Draft) -> bool:
        """Needs a history."""
        return len(draft.history) > 0

    def _wanted(self, draft: Draft) -> int:
        return draft.over_fetch(max(self.num_candidates, draft.request.k))


@dataclass(frozen=True)
class SequenceSource(_FromHistory):
    """Items whose vectors have the largest inner product with the query the model makes of the history."""

    encoder: QueryEncoder
    index: ItemIndex
    item_vectors: NDArray[np.float32]
    num_candidates: int
    on_failure: DegradedReason = "sequence_failed"

    def applies(self, draft: Draft) -> bool:
        """Needs a history of which the model learned something."""
        return super().applies(draft) and not draft.unlearned

    def run(self, draft: Draft) -> Draft:
        """Add the nearest items and keep the query for scoring."""
        query = self.encoder.encode(draft.readable(), draft.ages, draft.actions, draft.context)
        rows = _searched(draft, self.index, query, self.item_vectors, self._wanted(draft))
        nothing = np.zeros(len(rows), dtype=np.float32)  # exact scores are made for all candidates later
        return draft._replace(query=query).propose("sequence", Proposal(rows, nothing))

    def nearest(self, draft: Draft, count: int) -> NDArray[np.int64]:
        """Return the rows nearest to the query; none while there is none."""
        if draft.query is None:
            return np.empty(0, dtype=np.int64)
        return _searched(draft, self.index, draft.query, self.item_vectors, count)


@dataclass(frozen=True)
class SimilarSource(_FromHistory):
    """Items whose vectors point where that of the one item of the history points.

    The nearest by cosine; beyond `COMPARE_ALL_UP_TO` items the index proposes the largest inner products instead, and
    with a `dot` model long vectors then enter the race first.
    """

    item_vectors: NDArray[np.float32]
    index: ItemIndex
    num_candidates: int
    on_failure: DegradedReason = "sequence_failed"

    def applies(self, draft: Draft) -> bool:
        """Needs an item that has a learned vector."""
        return super().applies(draft) and not draft.unlearned

    def run(self, draft: Draft) -> Draft:
        """Add the nearest items."""
        rows = self.nearest(draft, self._wanted(draft))
        return draft._replace(candidates=draft.candidates.add(rows, "similar"))

    def nearest(self, draft: Draft, count: int) -> NDArray[np.int64]:
        """Return the rows nearest to the item; none without one that has a learned vector."""
        anchor = draft.history[-1:]
        if len(anchor) == 0 or draft.unlearned:
            return np.empty(0, dtype=np.int64)
        new = draft.changes.new
        vector = vectors_of(new, self.item_vectors, anchor)
        if len(self.item_vectors) - 1 > COMPARE_ALL_UP_TO:
            return _searched(draft, self.index, vector[0], self.item_vectors, count)
        closeness = cosines(self.item_vectors[1:], vector)[:, 0]
        if new is not None:
            closeness = np.concatenate([closeness, cosines(new.vectors, vector)[:, 0]])  # their rows follow
        return np.asarray(np.argsort(-closeness, kind="stable")[:count] + 1)


@dataclass(frozen=True)
class CovisitSource(_FromHistory):
    """Items that usually follow the newest events of the history."""

    successors: Successors
    window: int
    num_candidates: int
    on_failure: DegradedReason = "covisit_failed"

    def run(self, draft: Draft) -> Draft:
        """Add the strongest followers; ties go to the smaller row."""
        linked = followers(draft.readable(), self.successors, window=self.window)
        return draft.propose("covisit", best_of(*linked, self._wanted(draft)))


def _searched(
    draft: Draft, index: ItemIndex, query: NDArray[np.float32], item_vectors: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    """Return up to `count` item rows with large inner products: of the index, and of new items if there are any."""
    rows, new = index.search(query, count), draft.changes.new
    return rows if new is None else new.joined(rows, query, item_vectors, count)


@dataclass(frozen=True)
class PopularSource:
    """What trends where the slate is shown, then the most popular items, when fewer others are left than are needed."""

    popular_items: NDArray[np.int32]
    step: Step = "retrieve"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only fills up."""
        return draft.fall_short()

    def run(self, draft: Draft) -> Draft:
        """Add enough for as many as are needed to be left whenever the catalogue holds that many."""
        count = draft.over_fetch(draft.needed)
        rows = self.popular_items[:count]
        if draft.trend is not None:
            rows = np.concatenate([draft.trend.best_first()[:count], rows])
        return draft._replace(candidates=draft.candidates.add(rows, "popular"))
