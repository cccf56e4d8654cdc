"""Explain: name the history items that speak for each item of the slate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.contract.vocab import Vocab
from retrank.policy.covisit import Successors
from retrank.policy.explain import follows, similar
from retrank.serving.draft import BITS, Draft, ReasonFields
from retrank.serving.pipeline import Step


_POPULAR = BITS["popular"]


@dataclass(frozen=True)
class Explain:
    """Reasons, strongest first: what an item follows, what it is similar to, and whether it is merely popular."""

    items: Vocab
    item_vectors: NDArray[np.float32]
    successors: Successors
    popularity: NDArray[np.float32]
    window: int
    min_similarity: float
    step: Step = "explain"
    on_failure: DegradedReason = "explain_failed"

    def applies(self, draft: Draft) -> bool:
        """Only when asked."""
        return draft.request.explain and len(draft.candidates) > 0

    def run(self, draft: Draft) -> Draft:
        """Fill in one list of reasons per item of the slate."""
        slate, history = draft.candidates.rows, draft.history[-self.window :]
        before = follows(slate, history, self.successors)
        alike = similar(slate, history, self.item_vectors)
        reasons = [
            [*self._linked(*of_item), *self._popular(row, mask)]
            for row, mask, *of_item in zip(
                slate.tolist(),
                draft.candidates.sources.tolist(),
                before.anchors.tolist(),
                before.weights.tolist(),
                alike.anchors.tolist(),
                alike.weights.tolist(),
                strict=True,
            )
        ]
        return draft._replace(reasons=tuple(reasons))

    def _linked(self, before: int, share: float, alike: int, cosine: float) -> list[ReasonFields]:
        """Return what an item follows and what it is similar to, the stronger reason first."""
        found: list[ReasonFields] = []
        if before and share > 0.0:
            found.append({"code": "follows", "item_id": self.items.id(before), "weight": round(share, 4)})
        if alike and cosine > self.min_similarity:
            similar_to: ReasonFields = {
                "code": "similar_to",
                "item_id": self.items.id(alike),
                "weight": round(cosine, 4),
            }
            found.insert(0 if found and similar_to["weight"] > found[0]["weight"] else len(found), similar_to)
        return found

    def _popular(self, row: int, mask: int) -> list[ReasonFields]:
        if not mask & _POPULAR:
            return []
        return [{"code": "popular", "item_id": None, "weight": round(float(self.popularity[row]), 4)}]
