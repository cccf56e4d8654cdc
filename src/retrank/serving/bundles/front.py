"""What a service asks for its recommenders: whichever bundle answers at the moment.

Every request picks one recommender and keeps it. What it took and whether it went well is noted for the watch, and the
request itself is remembered for the rehearsal of the next bundle.
"""

from collections.abc import Callable, Collection

from retrank.contract.api import BundleInfo, ExperimentInfo, RecommendRequest
from retrank.serving.bundles.holder import Holder
from retrank.serving.bundles.watch import Figures
from retrank.serving.newest_requests import Asked, NewestRequests
from retrank.serving.picking import AnAnswer, Picked, never
from retrank.serving.pipeline import Clock
from retrank.serving.recommender import Recommender
from retrank.serving.runtime import Runtime

MAX_RECENT_REQUESTS = 200
_FAILED = "_failed"


class Front:
    """Picks the bundle that is active, or on trial for this key, when the request begins; follows `Watch`."""

    def __init__(self, holder: Holder, clock: Clock) -> None:
        """Stand in front of a holder.

        Args:
            holder: says what answers.
            clock: monotonic seconds.
        """
        self._holder = holder
        self._clock = clock
        self._recent = NewestRequests[Asked](MAX_RECENT_REQUESTS, clock)
        self._figures: dict[str, Figures] = {}

    @property
    def active(self) -> Recommender:
        """The recommender that answers when there is no canary for a key."""
        return self._holder.serving.active

    @property
    def bundle(self) -> BundleInfo:
        """The active bundle."""
        return self.active.bundle

    @property
    def runtime(self) -> Runtime:
        """The open files of the active bundle; take it once per request."""
        return self.active.runtime

    def pick(self, key: str | None) -> Picked:
        """Return what answers a request; `key` decides about a canary, so it names the person where possible."""
        serving = self._holder.serving
        if key is None:
            return Picked(serving.active)
        recommender, variant = serving.pick(key)
        if serving.canary is None:
            return Picked(recommender)
        return Picked(recommender, ExperimentInfo(id=f"canary-{serving.salt}", variant=variant))

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        """Keep a request for the rehearsal of the next bundle; the oldest one makes room."""
        self._recent.note(Asked(tenant, request))

    def forget_people(self, tags: Collection[str] | None) -> None:
        """Forget old requests and those of some people; see `NewestRequests.forget`."""
        self._recent.forget(tags)

    def watched(
        self,
        recommender: Recommender,
        act: Callable[[Recommender], AnAnswer],
        *,
        nothing_left: Callable[[Recommender], bool] = never,
    ) -> AnAnswer:
        """Let a recommender answer, and note how it went; that nothing was left to be shown is no fault of it."""
        figures = self.figures(recommender.bundle.id)
        started = self._clock()
        try:
            answer = act(recommender)
        except Exception:
            figures.note(self._clock() - started, failed=True, empty=False)
            raise
        failed = any(reason.endswith(_FAILED) for reason in answer.degraded.reasons)
        took_s = self._clock() - started
        figures.note(took_s, failed=failed, empty=not (answer.items or nothing_left(recommender)))
        return answer

    def figures(self, bundle_id: str) -> Figures:
        """Return the figures of a bundle; empty ones for a bundle that has not answered."""
        return self._figures.setdefault(bundle_id, Figures())

    def forget(self, bundle_id: str) -> None:
        """Drop the figures of a bundle, because it is gone or starts anew."""
        self._figures.pop(bundle_id, None)

    def keep_figures(self, bundle_ids: Collection[str]) -> None:
        """Drop the figures of all other bundles."""
        self._figures = {name: figures for name, figures in self._figures.items() if name in bundle_ids}

    def recent_requests(self) -> list[RecommendRequest]:
        """Return requests served lately, oldest first, to rehearse the next bundle with."""
        return [one.request for one in self._recent.newest()]
