"""Requests and answers of the service, the same over HTTP and in process. Unknown fields and types are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_K = 200
MAX_RECENT = 200
MAX_EXCLUDED = 1_000
MAX_ID_LENGTH = 256
"""Characters, not bytes."""
MAX_BODY_BYTES = 1 << 20

RawId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
ReasonCode = Literal["similar_to", "follows", "popular"]
Source = Literal["sequence", "covisit", "neighbours", "popular", "fresh", "similar"]
DegradedReason = Literal[
    "unknown_user",  # a user was named whom the bundle does not know
    "unknown_items",  # the session holds items the bundle does not know, or they are asked about
    "catalogue_exhausted",  # fewer than k items were left after removing seen and excluded ones
    "sequence_failed",  # a source or stage failed and the next rung of the ladder answered
    "covisit_failed",
    "neighbours_failed",
    "ranker_failed",
    "query_score_failed",
    "covisit_score_failed",
    "explain_failed",
    "record_failed",
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Session(_Message):
    """What this person did in this visit; `recent` holds item ids, oldest first."""

    recent: Annotated[list[RawId], Field(max_length=MAX_RECENT)] = []


class RecommendRequest(_Message):
    """Ask for a slate: for a known user, for an anonymous session, or for nobody in particular."""

    request_id: RawId | None = None
    user_id: RawId | None = None
    session: Session = Session()
    k: int = Field(default=10, ge=1, le=MAX_K)
    exclude_items: Annotated[list[RawId], Field(max_length=MAX_EXCLUDED)] = []
    exclude_seen: bool = True
    explain: bool = True


class SimilarRequest(_Message):
    """Ask for items like `item_id`."""

    request_id: RawId | None = None
    item_id: RawId
    k: int = Field(default=10, ge=1, le=MAX_K)


class Reason(_Message):
    """Why an item is on the slate: `item_id` is the item of the history it rests on, weight is in 0..1."""

    code: ReasonCode
    item_id: str | None = None
    weight: float


class SlateItem(_Message):
    """One recommended item; rank starts at 1, a higher score is better."""

    item_id: str
    rank: int
    score: float
    sources: list[Source]
    reasons: list[Reason] = []
    attributes: dict[str, Any] = {}


class BundleInfo(_Message):
    """Which bundle answered."""

    id: str
    created_at: datetime
    model: str


class Degraded(_Message):
    """Whether the answer rests on less than it could have, and why."""

    is_degraded: bool = False
    reasons: list[DegradedReason] = []


class SlateResponse(_Message):
    """The answer to recommend, similar and popular. `took_ms` has one entry per stage, and `total`."""

    request_id: str
    items: list[SlateItem]
    bundle: BundleInfo
    degraded: Degraded = Degraded()
    took_ms: dict[str, float] = {}


class CatalogueItem(_Message):
    """One item of the catalogue as a person would recognise it."""

    item_id: str
    attributes: dict[str, Any] = {}


class CatalogueItems(_Message):
    """Items that match a search, most popular first."""

    items: list[CatalogueItem]


class KnownUser(_Message):
    """A user the bundle holds a history of."""

    user_id: str
    num_events: int


class KnownUsers(_Message):
    """A few example users, spread over the bundle."""

    users: list[KnownUser]


class UserHistory(_Message):
    """The newest events of a user, newest first; `num_events` counts all of them and is 0 for an unknown user."""

    user_id: str
    num_events: int
    items: list[CatalogueItem]


class Health(_Message):
    """Answer of the probes: `status` is `ok`, or `ready` once a bundle is open."""

    status: Literal["ok", "ready"]
    bundle: str | None = None


class Version(_Message):
    """What is running: package, bundle, and what the bundle says about its model."""

    package: str
    bundle: BundleInfo
    data: str
    num_items: int
    num_users: int
    index: str
    metrics: dict[str, float]


class FieldProblem(_Message):
    """One offending field, as a JSON pointer into the body."""

    pointer: str
    detail: str


class Problem(_Message):
    """An error in the form of RFC 9457 (`application/problem+json`)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldProblem] = []
