"""Which recommender answers a request, and who is told how it went."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeVar

from retrank.contract.api import Degraded, ExperimentInfo, RecommendRequest
from retrank.serving.recommender import Recommender


class Picked(NamedTuple):
    """What answers one request: a recommender, and the experiment that chose it."""

    recommender: Recommender
    experiment: ExperimentInfo | None = None


Pick = Callable[[str | None], Picked]
"""Key of a person, or of a request by nobody -> what answers it; the same key gets the same answer.

None is in no experiment.
"""


class Answer(Protocol):
    """What a watch reads of an answer."""

    @property
    def items(self) -> Sequence[object]:
        """What was found."""
        ...

    @property
    def degraded(self) -> Degraded:
        """What it had to do without."""
        ...


AnAnswer = TypeVar("AnAnswer", bound=Answer)


def never(recommender: Recommender) -> bool:
    """Say no: the answer to whether nothing may be shown, where nothing hides items."""
    del recommender
    return False


class Watch(Protocol):
    """Notes how recommenders do."""

    def watched(
        self,
        recommender: Recommender,
        act: Callable[[Recommender], AnAnswer],
        *,
        nothing_left: Callable[[Recommender], bool] = never,
    ) -> AnAnswer:
        """Let a recommender answer, and note how it went.

        `nothing_left` is asked only about an empty answer: that nothing may be shown is no fault of the bundle.
        """
        ...

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        """Keep a request to rehearse the next recommender with."""
        ...

    def forget_people(self, tags: Collection[str] | None) -> None:
        """Drop requests that are old, or of some people; see `NewestRequests.forget`."""
        ...


class NoWatch:
    """Notes nothing: for a recommender that is never replaced."""

    def watched(
        self,
        recommender: Recommender,
        act: Callable[[Recommender], AnAnswer],
        *,
        nothing_left: Callable[[Recommender], bool] = never,
    ) -> AnAnswer:
        """Let a recommender answer."""
        del nothing_left
        return act(recommender)

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        """Forget it."""

    def forget_people(self, tags: Collection[str] | None) -> None:
        """Nothing is kept."""
