"""Explain: name the history items that speak for each item of the slate."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason, Reason
from retrank.contract.vocab import Vocab
from retrank.policy.covisit import Successors
from retrank.policy.explain import follows, similar
from retrank.serving.draft import Draft, source_names
from retrank.serving.pipeline import Step


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
        reasons = []
        for position in range(len(slate)):
            found = [
                *self._linked("follows", int(before.anchors[position]), float(before.weights[position]), above=0.0),
                *self._linked(
                    "similar_to",
                    int(alike.anchors[position]),
                    float(alike.weights[position]),
                    above=self.min_similarity,
                ),
            ]
            found.sort(key=lambda reason: -reason.weight)
            if "popular" in source_names(int(draft.candidates.sources[position])):
                found.append(Reason(code="popular", weight=round(float(self.popularity[slate[position]]), 4)))
            reasons.append(found)
        return replace(draft, reasons=tuple(reasons))

    def _linked(self, code: str, anchor: int, weight: float, *, above: float) -> list[Reason]:
        if anchor == 0 or weight <= above:
            return []
        item_id = self.items.id(anchor)
        return [Reason(code="follows" if code == "follows" else "similar_to", item_id=item_id, weight=round(weight, 4))]
