"""What the routes talk to: the interface of one recommender over whichever bundle answers at the moment.

Every request picks one recommender and keeps it. What it took and whether it went well is noted for the watch, and the
request itself is remembered for the rehearsal of the next bundle.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from retrank.contract.api import BundleInfo, Degraded, RecommendRequest, SimilarRequest, SlateResponse
from retrank.serving.bundles.holder import Holder
from retrank.serving.bundles.watch import Figures
from retrank.serving.pipeline import Clock
from retrank.serving.recommender import Recommender
from retrank.serving.runtime import Runtime

MAX_RECENT_REQUESTS = 200
_FAILED = "_failed"


class Answer(Protocol):
    """What the watch reads of an answer."""

    @property
    def items(self) -> Sequence[object]:
        """What was found."""
        ...

    @property
    def degraded(self) -> Degraded:
        """What it had to do without."""
        ...


_Answer = TypeVar("_Answer", bound=Answer)


class Front:
    """Answers from the bundle that is active, or on trial for this key, when the request begins."""

    def __init__(self, holder: Holder, clock: Clock) -> None:
        """Stand in front of a holder.

        Args:
            holder: says what answers.
            clock: monotonic seconds.
        """
        self._holder = holder
        self._clock = clock
        self._recent: deque[RecommendRequest] = deque(maxlen=MAX_RECENT_REQUESTS)
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

    def recommend(self, request: RecommendRequest) -> SlateResponse:
        """Answer for a known user, an anonymous session, or nobody in particular."""
        self.remember(request)
        key = request.user_id or request.request_id or ""
        return self.answer(key, lambda recommender: recommender.recommend(request))

    def similar(self, request: SimilarRequest) -> SlateResponse:
        """Return items like one item."""
        return self.answer(request.request_id or "", lambda recommender: recommender.similar(request))

    def popular(self, k: int = 10, request_id: str | None = None) -> SlateResponse:
        """Return the k most popular items."""
        return self.answer(request_id or "", lambda recommender: recommender.popular(k, request_id))

    def remember(self, request: RecommendRequest) -> None:
        """Keep a request for the rehearsal of the next bundle; the oldest one makes room."""
        self._recent.append(request)

    def answer(self, key: str, act: Callable[[Recommender], _Answer]) -> _Answer:
        """Let one recommender answer, and note how it went.

        Args:
            key: decides about a canary; the person where one is known.
            act: asks the recommender it is given, and no other.
        """
        recommender = self._holder.pick(key).recommender
        figures = self.figures(recommender.bundle.id)
        started = self._clock()
        try:
            answer = act(recommender)
        except Exception:
            figures.note(self._clock() - started, failed=True, empty=False)
            raise
        failed = any(reason.endswith(_FAILED) for reason in answer.degraded.reasons)
        figures.note(self._clock() - started, failed=failed, empty=not answer.items)
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
        return list(self._recent.copy())
