"""Rerank: order the candidates and cut the slate."""

from dataclasses import dataclass, replace

import numpy as np

from retrank.serving.draft import Draft
from retrank.serving.pipeline import Step


@dataclass(frozen=True)
class TopK:
    """The k best by score; ties go to the smaller item row."""

    step: Step = "rerank"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every slate is ordered."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Sort and cut."""
        assert draft.scores is not None, "scored before reranked"
        best = np.lexsort((draft.candidates.rows, -draft.scores))[: draft.request.k]
        return replace(draft, candidates=draft.candidates.take(best), scores=draft.scores[best])
