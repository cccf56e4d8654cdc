"""A history of which the model learned nothing: items without an event in training, whose vectors say nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.serving.draft import Draft
from retrank.serving.pipeline import Step


@dataclass(frozen=True)
class MarkUnlearned:
    """Keep the model out of answers that rest on nothing it learned, and say so.

    Vectors of such items are all alike, pushed the same way by every step, so what is near to one is chance. Counting
    still answers: what followed the item since training ended, else what is popular.

    Attributes:
        unlearned: `[N + 1]` bool, items of the bundle without an event in training.
    """

    unlearned: NDArray[np.bool_]
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where there is a history and no item of it was learned."""
        return len(draft.history) > 0 and bool(self.unlearned[draft.readable()].all())

    def run(self, draft: Draft) -> Draft:
        """Mark the draft."""
        return draft.without("unknown_items")._replace(unlearned=True)
