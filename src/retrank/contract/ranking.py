"""Ranking the caller's own candidates, and several requests in one: requests and answers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.api import (
    BundleInfo,
    DeadlineMs,
    Degraded,
    Problem,
    RawId,
    Session,
    SlateResponse,
)
from retrank.contract.slate_options import Context, Placement

MAX_RANKED = 1_000
MAX_BATCH = 256


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RankRequest(_Message):
    """Ask for the scores of the caller's candidates, for somebody; nothing is added, filtered or hidden."""

    request_id: RawId | None = None
    user_id: RawId | None = None
    anonymous_id: RawId | None = None
    session: Session = Session()
    placement: Placement | None = None
    context: Context = {}
    items: Annotated[list[RawId], Field(min_length=1, max_length=MAX_RANKED)]
    deadline_ms: DeadlineMs | None = None


class RankedItem(_Message):
    """One candidate; `score` is None and `rank` last for an item the bundle does not know."""

    item_id: str
    rank: int
    score: float | None


class RankResponse(_Message):
    """Every distinct candidate once, best first; items the bundle does not know come last, in the order asked."""

    request_id: str
    items: list[RankedItem]
    bundle: BundleInfo
    degraded: Degraded = Degraded()
    took_ms: dict[str, float] = {}


class BatchRequest(_Message):
    """Ask for several slates. Each request is checked by itself, so that a bad one does not stop the others."""

    requests: Annotated[list[dict[str, object]], Field(min_length=1, max_length=MAX_BATCH)]


class BatchItem(_Message):
    """The answer to one request of a batch: `slate` when `status` is 200, else `problem`.

    422: the request does not fit. 500: the service failed at this one. 504: the time of the whole batch was over before
    its turn came; nothing was done.
    """

    status: int
    slate: SlateResponse | None = None
    problem: Problem | None = None


class BatchResponse(_Message):
    """Answers in the order of the requests."""

    request_id: str
    answers: list[BatchItem]
