"""Hydrate: from raw ids to the history a request stands on and the items it must not show."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.actions import Actions
from retrank.contract.api import RecommendRequest
from retrank.contract.context import ContextRows, ContextSpec
from retrank.contract.proposals import distinct
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.serving.draft import Draft
from retrank.serving.live_history import LiveHistory, live_history, remembered
from retrank.serving.new_rows import NewRows, row_of, rows_of
from retrank.serving.pipeline import Clock, Step

_MICROSECONDS = 1_000_000
_DAY_S = 86_400
_NONE = np.empty(0, dtype=np.int64)
_NO_FIELDS = ContextRows(ContextSpec())


class _Sealed(NamedTuple):
    """Events of a user in the bundle: rows, ages in seconds, actions, and the microsecond up to which it has them."""

    rows: NDArray[np.int32]
    ages: NDArray[np.int64]
    actions: NDArray[np.int64]
    until_us: int


@dataclass(frozen=True)
class Hydrate:
    """The sealed history of a known user, newer live events, the session, seed items; unknown ids are noted.

    Attributes:
        users, items: ids and rows of the bundle.
        histories: sealed events.
        sealed_us: moment the bundle was made, in microseconds; events of the bundle are no newer.
        now: seconds since the Unix epoch.
        known_actions: what the models learned of, and what that is live.
        fields: what the sequence model reads of the moment of a request.
        user_fields: `[U + 1, F]` sealed rows of those fields that users tell; None where they tell none.
    """

    users: Vocab
    items: Vocab
    histories: Sequences
    sealed_us: int
    now: Clock
    known_actions: Actions
    fields: ContextRows = _NO_FIELDS
    user_fields: NDArray[np.int32] | None = None
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every request is hydrated."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Fill in `now`, `context`, `history` with `ages` and `actions`, `seen` and `excluded`."""
        request, now = draft.request, self.now()
        user = 0 if request.user_id is None else self.users.row(request.user_id)
        sealed = self._sealed(user, int(now * _MICROSECONDS))
        live = live_history(draft.profile, request.session, after_us=sealed.until_us)
        visit = [*live.recent, *request.seed_items]
        new = draft.changes.new
        recent = rows_of(new, self.items, visit)
        if len(recent) < len(visit):
            draft = draft.without("unknown_items")
        if request.user_id is not None and user == 0 and not live.item_ids:
            draft = draft.without("unknown_user")
        live_rows, live_ages, live_actions = self._live(live, now, new)
        unknown = np.zeros(len(recent), dtype=np.int64)
        history = np.concatenate([sealed.rows, live_rows, recent], dtype=np.int64)
        ages = np.concatenate([sealed.ages, live_ages, unknown])
        actions = np.concatenate([sealed.actions, live_actions, unknown])
        context = self._context(request, user, now)
        draft = draft._replace(now=now, history=history, ages=ages, actions=actions, context=context)
        seen = self._seen(draft, len(sealed.rows), len(recent))
        return draft._replace(seen=seen, excluded=self._excluded(request, draft))

    def _context(self, request: RecommendRequest, user: int, now: float) -> NDArray[np.int64]:
        """Return the rows of the moment; what the request does not tell of its user is taken as it was sealed.

        A value that it tells counts even where nobody learned it: it says that the sealed one holds no longer.
        """
        rows = self.fields.of_request(request.context, int(now * _MICROSECONDS))
        if self.user_fields is None:
            return rows
        return np.where(self.fields.told(request.context), rows, self.user_fields[user])

    def _sealed(self, user: int, now_us: int) -> _Sealed:
        if not user:
            return _Sealed(np.empty(0, dtype=np.int32), _NONE, _NONE, -1)
        events = slice(self.histories.offsets[user - 1], self.histories.offsets[user])
        rows, ages, until_us = self.histories.item_rows[events], None, self.sealed_us
        if self.histories.times is not None and len(rows):
            times = self.histories.times[events]
            ages, until_us = np.maximum(now_us - times, 0) // _MICROSECONDS, int(times[-1])
        unknown = np.zeros(len(rows), dtype=np.int64)
        known = self.histories.actions
        actions = unknown if known is None else known[events].astype(np.int64)
        return _Sealed(rows, unknown if ages is None else ages, actions, until_us)

    def _live(
        self, live: LiveHistory, now: float, new: NewRows | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return rows, ages in seconds and action rows of the live events with items of the bundle and new ones."""
        if not live.item_ids:
            return _NONE, _NONE, _NONE
        triples = zip(live.item_ids, live.times_us, live.kinds, strict=True)
        known = [
            (row, time_us, self.known_actions.row(kind))
            for item, time_us, kind in triples
            if (row := row_of(new, self.items, item))
        ]
        rows, times_us, actions = np.array(known, dtype=np.int64).reshape(-1, 3).T
        return rows, np.maximum(int(now * _MICROSECONDS) - times_us, 0) // _MICROSECONDS, actions

    def _seen(self, draft: Draft, num_sealed: int, num_recent: int) -> NDArray[np.int64]:
        request, policy = draft.request, draft.request.seen
        if not request.exclude_seen:
            return _NONE
        rows = draft.history
        if policy is not None:
            # Live events follow the policy through the seen memory, which knows what they were.
            counts = np.zeros(len(rows), dtype=bool)
            counts[:num_sealed] = self.known_actions.of_types(policy.types)[draft.actions[:num_sealed]]
            counts[len(rows) - num_recent :] = "click" in policy.types
            rows = rows[counts & (draft.ages <= (policy.days or np.inf) * _DAY_S)]
        if draft.profile.seen:
            memory = remembered(draft.profile, policy, draft.now)
            rows = np.concatenate([rows, rows_of(draft.changes.new, self.items, memory)])
        return distinct(rows)

    def _excluded(self, request: RecommendRequest, draft: Draft) -> NDArray[np.int64]:
        """Return what the request excludes, what it starts from, and what this person dismissed."""
        excluded = [*request.exclude_items, *request.seed_items]
        excluded += [item for item, kinds in draft.profile.seen.items() if "dismiss" in kinds]
        return distinct(rows_of(draft.changes.new, self.items, excluded)) if excluded else _NONE
