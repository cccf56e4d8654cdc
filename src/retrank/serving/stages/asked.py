"""For ranking the caller's own candidates: what the sources proposed only tells how they see the items asked about."""

from dataclasses import dataclass

import numpy as np

from retrank.contract.proposals import contained
from retrank.serving.draft import Candidates, Draft
from retrank.serving.pipeline import Step


@dataclass(frozen=True)
class OnlyAsked:
    """Let exactly the items asked about stay in the race."""

    step: Step = "filter"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where items are asked about."""
        return draft.asked is not None

    def run(self, draft: Draft) -> Draft:
        """Replace the candidates; an item keeps the sources that proposed it."""
        assert draft.asked is not None
        proposed = draft.candidates.take(contained(draft.candidates.rows, draft.asked))
        sources = np.zeros(len(draft.asked), dtype=np.int64)
        sources[np.searchsorted(draft.asked, proposed.rows)] = proposed.sources
        return draft._replace(candidates=Candidates(draft.asked, sources))
