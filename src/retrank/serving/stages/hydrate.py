"""Hydrate: from raw ids to the history a request stands on and the items it must not show."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import RecommendRequest
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.serving.draft import Draft
from retrank.serving.live_history import LiveHistory, live_history, remembered
from retrank.serving.pipeline import Clock, Step

_MICROSECONDS = 1_000_000
_DAY_S = 86_400
_NONE = np.empty(0, dtype=np.int64)


class _Sealed(NamedTuple):
    """Events of a user in the bundle: rows, ages in seconds, and the microsecond up to which the bundle has them."""

    rows: NDArray[np.int32]
    ages: NDArray[np.int64]
    until_us: int


@dataclass(frozen=True)
class Hydrate:
    """The sealed history of a known user, newer live events, the session, seed items; unknown ids are noted.

    Attributes:
        users, items: ids and rows of the bundle.
        histories: sealed events.
        sealed_us: moment the bundle was made, in microseconds; events of the bundle are no newer.
        now: seconds since the Unix epoch.
    """

    users: Vocab
    items: Vocab
    histories: Sequences
    sealed_us: int
    now: Clock
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every request is hydrated."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Fill in `now`, `history`, `ages`, `seen` and `excluded`."""
        request, now = draft.request, self.now()
        user = 0 if request.user_id is None else self.users.row(request.user_id)
        sealed = self._sealed(user, int(now * _MICROSECONDS))
        live = live_history(draft.profile, request.session, after_us=sealed.until_us)
        visit = [*live.recent, *request.seed_items]
        recent = self.items.rows(visit)
        if len(recent) < len(visit):
            draft = draft.without("unknown_items")
        if request.user_id is not None and user == 0 and not live.item_ids:
            draft = draft.without("unknown_user")
        parts, ages = [sealed.rows, recent], [sealed.ages, np.zeros(len(recent), dtype=np.int64)]
        if live.item_ids:
            parts.insert(1, self.items.rows(live.item_ids))
            ages.insert(1, self._live_ages(live, now))
        history = np.concatenate(parts).astype(np.int64)
        draft = replace(draft, now=now, history=history, ages=np.concatenate(ages))
        seen = self._seen(draft, len(sealed.rows), len(recent))
        return replace(draft, seen=seen, excluded=self._excluded(request, draft))

    def _sealed(self, user: int, now_us: int) -> _Sealed:
        if not user:
            return _Sealed(np.empty(0, dtype=np.int32), _NONE, -1)
        rows, times = self.histories.of(user - 1), self.histories.times
        if times is None or len(rows) == 0:
            return _Sealed(rows, np.zeros(len(rows), dtype=np.int64), self.sealed_us)
        start = self.histories.offsets[user - 1]
        of_user = times[start : start + len(rows)]
        return _Sealed(rows, np.maximum(now_us - of_user, 0) // _MICROSECONDS, int(of_user[-1]))

    def _live_ages(self, live: LiveHistory, now: float) -> NDArray[np.int64]:
        """Return whole seconds since the live events with items that the bundle knows."""
        pairs = zip(live.item_ids, live.times_us, strict=True)
        known = [time_us for item, time_us in pairs if self.items.row(item)]
        ages: NDArray[np.int64] = np.maximum(int(now * _MICROSECONDS) - np.array(known, dtype=np.int64), 0)
        return ages // _MICROSECONDS

    def _seen(self, draft: Draft, num_sealed: int, num_recent: int) -> NDArray[np.int64]:
        request, policy = draft.request, draft.request.seen
        if not request.exclude_seen:
            return _NONE
        rows = draft.history
        if policy is not None:
            # Live events follow the policy through the seen memory, which knows what they were.
            counts = np.zeros(len(rows), dtype=bool)
            counts[:num_sealed] = set(policy.types) != {"impression"}
            counts[len(rows) - num_recent :] = "click" in policy.types
            rows = rows[counts & (draft.ages <= (policy.days or np.inf) * _DAY_S)]
        if draft.profile.seen:
            memory = remembered(draft.profile, policy, draft.now)
            rows = np.concatenate([rows, self.items.rows(memory)])
        return np.unique(rows).astype(np.int64)

    def _excluded(self, request: RecommendRequest, draft: Draft) -> NDArray[np.int64]:
        """Return what the request excludes, what it starts from, and what this person dismissed."""
        excluded = [*request.exclude_items, *request.seed_items]
        excluded += [item for item, kinds in draft.profile.seen.items() if "dismiss" in kinds]
        return np.unique(self.items.rows(excluded)).astype(np.int64)
