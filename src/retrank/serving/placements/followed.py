"""Everything about placements that one serving process runs: rules kept fresh, and questions about them answered."""

import secrets
import time
from collections.abc import Callable, Collection

from retrank.contract.api import RecommendRequest
from retrank.serving.gather import Gather
from retrank.serving.live_rules import NO_HOUSE, House
from retrank.serving.placements.houses import Houses
from retrank.serving.placements.rehearsal import Rehearsal
from retrank.serving.placements.trial import Answerer
from retrank.serving.poller import Poller
from retrank.serving.recommender import Recommender
from retrank.serving.stores.protocol import Control


class NoPlacements:
    """Knows of no rules: for a service without a state store."""

    def of(self, tenant: str) -> House:
        """Return what holds for a tenant: nothing."""
        del tenant
        return NO_HOUSE

    def keep(self, tenant: str, request: RecommendRequest) -> None:
        """Forget it."""

    def forget(self, tags: Collection[str] | None) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing runs."""


class Placements(NoPlacements):
    """Follows the shelves of all tenants; two threads, one of which may be busy trying a change out."""

    def __init__(
        self,
        control: Control,
        recommender: Callable[[], Recommender],
        gather: Gather,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        every_s: float,
    ) -> None:
        """Start following.

        Args:
            control: where operators put rules.
            recommender: what answers at the moment.
            gather: reads profiles and changes of the catalogue.
            clock: monotonic seconds.
            now: seconds since 1970.
            every_s: how often to look.
        """
        self._houses = Houses(control, clock, every_s)
        self._rehearsal = Rehearsal(recommender, gather, self._houses, now=now, clock=clock)
        name = secrets.token_hex(8)
        answerer = Answerer(control, name, self._rehearsal, now=now, clock=clock, sleep=time.sleep)
        self._pollers = [
            Poller(self._houses.poll, every_s, "poll-placements"),
            Poller(answerer.poll, every_s, "try-placements"),
        ]

    def of(self, tenant: str) -> House:
        """Return what holds for a tenant."""
        return self._houses.of(tenant)

    def keep(self, tenant: str, request: RecommendRequest) -> None:
        """Remember a request as it came in, to try changes out with."""
        self._rehearsal.keep(tenant, request)

    def forget(self, tags: Collection[str] | None) -> None:
        """Forget old requests and those of some people; see `NewestRequests.forget`."""
        self._rehearsal.forget(tags)

    def close(self) -> None:
        """Stop the threads."""
        for poller in self._pollers:
            poller.close()
