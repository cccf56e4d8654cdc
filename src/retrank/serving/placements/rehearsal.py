"""Answer requests of the last minutes again, under the rules as they are and as they would be."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np

from retrank.contract.api import MAX_DEADLINE_MS, RecommendRequest, SlateItem
from retrank.contract.events import person_key
from retrank.serving.gather import Gather, Place, Who
from retrank.serving.live_rules import House, RuleRows
from retrank.serving.newest_requests import Asked, NewestRequests
from retrank.serving.placements.houses import Houses
from retrank.serving.placements.trial import Pair
from retrank.serving.recommender import Recommender
from retrank.serving.row_changes import RowChanges

MAX_KEPT = 200
"""Requests of a tenant that one replica keeps."""
MAX_TENANTS = 100
_BLOCK = 1 << 16


class Rehearsal:
    """Keeps requests, and answers them again."""

    def __init__(
        self,
        recommender: Callable[[], Recommender],
        gather: Gather,
        houses: Houses,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        """Start with none.

        Args:
            recommender: what answers at the moment.
            gather: reads profiles and changes.
            houses: the rules as they are.
            now: seconds since 1970.
            clock: monotonic seconds.
        """
        self._recommender, self._gather, self._houses = recommender, gather, houses
        self._now, self._clock = now, clock
        self._kept: dict[str, NewestRequests[Asked]] = {}  # by tenant: a busy one leaves the others theirs

    def keep(self, tenant: str, request: RecommendRequest) -> None:
        """Remember a request as it came in, before its placement completed it."""
        kept = self._kept.get(tenant)
        if kept is None:
            if len(self._kept) >= MAX_TENANTS:
                self._kept.pop(next(iter(self._kept)), None)
            kept = self._kept[tenant] = NewestRequests(MAX_KEPT, self._clock)
        kept.note(Asked(tenant, request))

    def forget(self, tags: Collection[str] | None) -> None:
        """Forget old requests and those of some people; see `NewestRequests.forget`."""
        for kept in list(self._kept.values()):
            kept.forget(tags)

    def pairs(self, tenant: str, proposed: House) -> Iterator[Pair]:
        """Answer the requests of a tenant twice, newest first; nothing is counted, logged or signed."""
        quiet = self._recommender().quiet()
        kept = self._kept.get(tenant)
        for asked in [] if kept is None else reversed(kept.newest()):
            before = self._slate(quiet, asked, self._houses.of(tenant))
            yield Pair(before, self._slate(quiet, asked, proposed))

    def about(self, tenant: str, proposed: House, rule_id: str) -> tuple[int, int]:
        """Return how many items a rule of the proposed house is about, and how many there are."""
        recommender = self._recommender()
        runtime, seen = recommender.runtime, self._gather.around(Who(tenant)).around.changes
        changes = replace(RowChanges.of(seen, runtime.items), new=recommender.new_items(seen))
        test = RuleRows(runtime.items, runtime.attributes.columns).test
        passes = [test(rule, changes) for rule in proposed.rules if rule.said.id == rule_id]
        count = len(runtime.items) + (0 if changes.new is None else len(changes.new))
        rows = np.arange(1, count + 1, dtype=np.int64)
        blocks = (rows[start : start + _BLOCK] for start in range(0, count, _BLOCK))
        return sum(int(passes[0](block).sum()) for block in blocks) if passes else 0, count

    def _slate(self, quiet: Recommender, asked: Asked, house: House) -> list[SlateItem]:
        tenant, request = asked.tenant, house.completed(asked.request)
        who = Who(tenant, person_key(request.user_id, request.anonymous_id, request.session.id), request.session.id)
        seed = 0 if request.explore is None else request.explore.seed or 0
        place = None if request.placement is None else Place(request.placement, "7d", asked=False)
        around = self._gather.around(who, MAX_DEADLINE_MS, seed, place).around
        rules = house.rules_at(request.placement, self._now()) or ()
        plain = request.model_copy(update={"explain": False})
        return quiet.recommend(plain, around._replace(budget_s=math.inf, rules=rules)).items
