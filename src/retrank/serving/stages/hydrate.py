"""Hydrate: from raw ids to the history a request stands on and the items it must not show."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.serving.draft import Draft
from retrank.serving.pipeline import Clock, Step

_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Hydrate:
    """Stored history of a known user, then the session; unknown ids are noted, never an error."""

    users: Vocab
    items: Vocab
    histories: Sequences
    now: Clock
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every request is hydrated."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Fill in `now`, `history`, `seen` and `excluded`."""
        request = draft.request
        recent = self.items.rows(request.session.recent)
        if len(recent) < len(request.session.recent):
            draft = draft.without("unknown_items")
        if request.user_id is not None and self.users.row(request.user_id) == 0:
            draft = draft.without("unknown_user")
        now = self.now()
        stored, ages = self._stored(request.user_id, now)
        history = np.concatenate([stored, recent]).astype(np.int64)
        seen = np.unique(history) if request.exclude_seen else history[:0]
        excluded = np.unique(self.items.rows(request.exclude_items)).astype(np.int64)
        ages = np.concatenate([ages, np.zeros(len(recent), dtype=np.int64)])
        return replace(draft, now=now, history=history, ages=ages, seen=seen, excluded=excluded)

    def _stored(self, user_id: str | None, now: float) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the item rows of a known user's events and how many seconds ago they were."""
        row = 0 if user_id is None else self.users.row(user_id)
        if not row:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
        rows, times = self.histories.of(row - 1), self.histories.times
        if times is None:
            return rows, np.zeros(len(rows), dtype=np.int64)
        asked_at = int(now * _MICROSECONDS)
        start = self.histories.offsets[row - 1]
        return rows, np.maximum(asked_at - times[start : start + len(rows)], 0) // _MICROSECONDS
