"""Score: one number per candidate, all candidates of a slate by the same rule. The first rule that applies wins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.policy.covisit import Successors, followers
from retrank.policy.explain import cosines
from retrank.serving.draft import Draft
from retrank.serving.new_rows import sealed_rows, vectors_of
from retrank.serving.pipeline import Step

POPULARITY_TIE_BREAK = 1e-4
"""Weight of the popularity share beside co-visitation and trend scores: orders what they leave level."""


@dataclass(frozen=True)
class QueryScore:
    """Inner product of the query and the item vector: exact, whatever index proposed the candidate."""

    item_vectors: NDArray[np.float32]
    step: Step = "score"
    on_failure: DegradedReason = "query_score_failed"

    def applies(self, draft: Draft) -> bool:
        """Needs the query of the sequence model; only when no ranker did."""
        return draft.scores is None and draft.query is not None

    def run(self, draft: Draft) -> Draft:
        """Score every candidate; einsum adds up each row alike, so a score does not depend on its neighbours."""
        assert draft.query is not None, "applies only with a query"
        vectors = vectors_of(draft.changes.new, self.item_vectors, draft.candidates.rows)  # [C, D]
        scores: NDArray[np.float32] = np.einsum("cd,d->c", vectors, draft.query)
        return draft._replace(scores=scores)


@dataclass(frozen=True)
class CosineScore:
    """Cosine between the item vectors of the one item asked about and of the candidate."""

    item_vectors: NDArray[np.float32]
    step: Step = "score"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Needs the item asked about, with a learned vector."""
        return len(draft.history) > 0 and not draft.unlearned

    def run(self, draft: Draft) -> Draft:
        """Score every candidate."""
        new = draft.changes.new
        anchor = vectors_of(new, self.item_vectors, draft.history[-1:])
        candidates = vectors_of(new, self.item_vectors, draft.candidates.rows)
        return draft._replace(scores=cosines(candidates, anchor)[:, 0])


@dataclass(frozen=True)
class CovisitScore:
    """How strongly a candidate usually follows the newest events, 0..1."""

    successors: Successors
    popularity: NDArray[np.float32]
    window: int
    step: Step = "score"
    on_failure: DegradedReason = "covisit_score_failed"

    def applies(self, draft: Draft) -> bool:
        """Only when the query score is missing."""
        return draft.scores is None and len(draft.history) > 0

    def run(self, draft: Draft) -> Draft:
        """Score every candidate; one without any link is ordered by popularity."""
        linked, strength = followers(draft.readable(), self.successors, window=self.window)
        rows = draft.candidates.rows
        scores = np.zeros(len(rows), dtype=np.float32)
        if len(linked):
            position = np.minimum(np.searchsorted(linked, rows), len(linked) - 1)
            scores = np.where(linked[position] == rows, strength[position], scores)
        popularity = self.popularity[sealed_rows(draft.changes.new, rows)]
        return draft._replace(scores=scores + np.float32(POPULARITY_TIE_BREAK) * popularity)


@dataclass(frozen=True)
class PopularScore:
    """Popularity as a share of the most popular item's, 0..1; what trends comes before it."""

    popularity: NDArray[np.float32]
    step: Step = "score"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only when nothing better did."""
        return draft.scores is None

    def run(self, draft: Draft) -> Draft:
        """Score every candidate."""
        rows = draft.candidates.rows
        popularity = self.popularity[sealed_rows(draft.changes.new, rows)]
        if draft.trend is None:
            return draft._replace(scores=popularity)
        return draft._replace(scores=draft.trend.of(rows) + np.float32(POPULARITY_TIE_BREAK) * popularity)
