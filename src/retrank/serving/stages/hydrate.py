"""Hydrate: from raw ids to the history a request stands on and the items it must not show."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.serving.draft import Draft
from retrank.serving.pipeline import Clock, Step

_MICROSECONDS = 1_000_000
_Numbers = NDArray[np.int64]


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
        """Fill in `now`, `history` with `ages` and `actions`, `seen` and `excluded`."""
        request = draft.request
        recent = self.items.rows(request.session.recent)
        if len(recent) < len(request.session.recent):
            draft = draft.without("unknown_items")
        if request.user_id is not None and self.users.row(request.user_id) == 0:
            draft = draft.without("unknown_user")
        now = self.now()
        stored, ages, actions = self._stored(request.user_id, now)
        history = np.concatenate([stored, recent]).astype(np.int64)
        seen = np.unique(history) if request.exclude_seen else history[:0]
        excluded = np.unique(self.items.rows(request.exclude_items)).astype(np.int64)
        unknown = np.zeros(len(recent), dtype=np.int64)
        ages, actions = np.concatenate([ages, unknown]), np.concatenate([actions, unknown])
        return replace(draft, now=now, history=history, ages=ages, actions=actions, seen=seen, excluded=excluded)

    def _stored(self, user_id: str | None, now: float) -> tuple[NDArray[np.int32], _Numbers, _Numbers]:
        """Return the item rows of a known user's events, how many seconds ago they were, and their action rows."""
        row = 0 if user_id is None else self.users.row(user_id)
        if not row:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        events = slice(self.histories.offsets[row - 1], self.histories.offsets[row])
        ages = actions = np.zeros(events.stop - events.start, dtype=np.int64)
        if self.histories.times is not None:
            asked_at = int(now * _MICROSECONDS)
            ages = np.maximum(asked_at - self.histories.times[events], 0) // _MICROSECONDS
        if self.histories.actions is not None:
            actions = self.histories.actions[events].astype(np.int64)
        return self.histories.item_rows[events], ages, actions
