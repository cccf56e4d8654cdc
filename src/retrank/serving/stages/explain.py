"""Explain: name the history items that speak for each item of the slate."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.contract.vocab import Vocab
from retrank.policy.covisit import Successors
from retrank.policy.explain import Evidence, follows, nothing, similar
from retrank.serving.draft import BITS, Draft, ReasonFields
from retrank.serving.new_rows import NewRows, ids_of, sealed_rows, vectors_of
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
        new = draft.changes.new
        sealed = sealed_rows(new, slate)
        before = follows(sealed, sealed_rows(new, history), self.successors)
        vectors = (vectors_of(new, self.item_vectors, rows) for rows in (slate, history))
        alike = nothing(len(slate)) if draft.unlearned else similar(slate, history, *vectors)
        reasons = [
            [*linked, *self._popular(row, mask)]
            for row, mask, linked in zip(
                sealed.tolist(), draft.candidates.sources.tolist(), self._linked(before, alike, new), strict=True
            )
        ]
        return draft._replace(reasons=tuple(reasons))

    def _linked(self, before: Evidence, alike: Evidence, new: NewRows | None) -> Iterator[list[ReasonFields]]:
        """Yield for each item what it follows and what it is similar to, the stronger reason first."""
        anchors = {row for row in (*before.anchors.tolist(), *alike.anchors.tolist()) if row}
        names = dict(zip(anchors, ids_of(new, self.items, anchors), strict=True))
        for first, share, second, cosine in zip(*(part.tolist() for part in (*before, *alike)), strict=True):
            found: list[ReasonFields] = []
            if first and share > 0.0:
                found.append({"code": "follows", "item_id": names[first], "weight": round(share, 4)})
            if second and cosine > self.min_similarity:
                found.append({"code": "similar_to", "item_id": names[second], "weight": round(cosine, 4)})
                if found[-1]["weight"] > found[0]["weight"]:
                    found.reverse()
            yield found

    def _popular(self, row: int, mask: int) -> list[ReasonFields]:
        if not mask & _POPULAR:
            return []
        return [{"code": "popular", "item_id": None, "weight": round(float(self.popularity[row]), 4)}]
