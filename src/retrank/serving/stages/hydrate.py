"""Hydrate: from raw ids to the history a request stands on and the items it must not show."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.serving.draft import Draft
from retrank.serving.pipeline import Step


@dataclass(frozen=True)
class Hydrate:
    """Stored history of a known user, then the session; unknown ids are noted, never an error."""

    users: Vocab
    items: Vocab
    histories: Sequences
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every request is hydrated."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Fill in `history`, `seen` and `excluded`."""
        request = draft.request
        recent = self.items.rows(request.session.recent)
        if len(recent) < len(request.session.recent):
            draft = draft.without("unknown_items")
        if request.user_id is not None and self.users.row(request.user_id) == 0:
            draft = draft.without("unknown_user")
        history = np.concatenate([self._stored(request.user_id), recent]).astype(np.int64)
        seen = np.unique(history) if request.exclude_seen else history[:0]
        excluded = np.unique(self.items.rows(request.exclude_items)).astype(np.int64)
        return replace(draft, history=history, seen=seen, excluded=excluded)

    def _stored(self, user_id: str | None) -> NDArray[np.int32]:
        row = 0 if user_id is None else self.users.row(user_id)
        return self.histories.of(row - 1) if row else np.empty(0, dtype=np.int32)
