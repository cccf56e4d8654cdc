"""Requests and answers of the service, the same over HTTP and in process. Unknown fields and types are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.filters import Attribute, Filter
from retrank.contract.problem_codes import ProblemCode
from retrank.contract.scalars import WHOLE
from retrank.contract.slate_options import Context, Diversity, Explore, Placement, SeenPolicy

MAX_K = 200
MAX_RECENT = 200
MAX_EXCLUDED = 1_000
MAX_ID_LENGTH = 256
"""Characters, not bytes."""
MAX_BODY_BYTES = 1 << 20
MAX_SEEDS = 50
MAX_ATTRIBUTES = 64
MAX_DEADLINE_MS = 60_000

RawId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
SlateSize = Annotated[int, Field(ge=1, le=MAX_K), WHOLE]
DeadlineMs = Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS), WHOLE]
Window = Literal["24h", "7d", "all"]
ReasonCode = Literal["similar_to", "follows", "popular"]
Source = Literal[
    "sequence",
    "covisit",
    "neighbours",
    "popular",
    "fresh",
    "similar",
    "pinned",  # a rule of an operator put it there, or moved it
    "boosted",
    "buried",
]
DegradedReason = Literal[
    "unknown_user",  # a user was named whom the bundle does not know
    "unknown_items",  # not in the bundle nor encoded, or all that is known of somebody was never learned of
    "catalogue_exhausted",  # fewer than k items were left after removing seen and excluded ones
    "sequence_failed",  # a source or stage failed and the next rung of the ladder answered
    "covisit_failed",
    "neighbours_failed",
    "ranker_failed",
    "query_score_failed",
    "covisit_score_failed",
    "explain_failed",
    "record_failed",
    "rerank_failed",  # diversity and exploration fell away, plain order answered
    "deadline",  # too little time was left; `stages_skipped` names what was left out
    "profile_unavailable",  # the state store did not answer: nothing newer than the bundle was known of this person
    "catalogue_stale",  # the state store did not answer: changes of items since the last look are not shown
    "rules_unavailable",  # rules and placements could not be read since the replica began: none of them is followed
    "decision_log_unavailable",  # this answer is not in the decision log
    "nothing_trends",  # no act was counted in the window asked about: the popularity of the bundle answered
    "unknown_attribute",  # the filter or a cap names an attribute that no item has
    "cap_exceeded",  # too few candidates kept to the caps of `diversity`: capped ones fill the slate
    "mistyped_attribute",  # the filter compares an attribute with a value of another type than the bundle has it in
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Session(_Message):
    """What this person did in this visit; `recent` holds item ids, oldest first, also those posted as events."""

    id: RawId | None = None
    recent: Annotated[list[RawId], Field(max_length=MAX_RECENT)] = []


class RecommendRequest(_Message):
    """Ask for a slate: for a known user, for an anonymous session, or for nobody in particular.

    Attributes:
        request_id: names the request in logs and errors.
        user_id, anonymous_id: who asks; the account, and the browser or device.
        session: the visit at hand.
        placement: where the slate will be shown; travels into the token, the decision log and the metrics.
        context: what else is known of the moment, by name; kept with the decision, and read by a model that learned of
            fields of these names (docs/context.md). Other names, and values it never met, change nothing.
        k: items wanted.
        seed_items: items the slate should go with, such as those in a basket; they end the history.
        exclude_items: items that must not appear.
        exclude_seen, seen: whether seen items stay away, and which items count as seen.
        filter: what every item must satisfy, see `Filter`.
        diversity, explore: how the slate departs from plain order.
        explain: give reasons.
        fields: attributes that come back; None is all.
        deadline_ms: milliseconds the answer may take; what does not fit is left out and named.
    """

    request_id: RawId | None = None
    user_id: RawId | None = None
    anonymous_id: RawId | None = None
    session: Session = Session()
    placement: Placement | None = None
    context: Context = {}
    k: SlateSize = 10
    seed_items: Annotated[list[RawId], Field(max_length=MAX_SEEDS)] = []
    exclude_items: Annotated[list[RawId], Field(max_length=MAX_EXCLUDED)] = []
    exclude_seen: bool = True
    seen: SeenPolicy | None = None
    filter: Filter | None = None
    diversity: Diversity | None = None
    explore: Explore | None = None
    explain: bool = True
    fields: Annotated[list[Attribute], Field(max_length=MAX_ATTRIBUTES)] | None = None
    deadline_ms: DeadlineMs | None = None


class SimilarRequest(_Message):
    """Ask for items like `item_id`; the other fields are those of `RecommendRequest`."""

    request_id: RawId | None = None
    item_id: RawId
    k: SlateSize = 10
    placement: Placement | None = None
    exclude_items: Annotated[list[RawId], Field(max_length=MAX_EXCLUDED)] = []
    filter: Filter | None = None
    fields: Annotated[list[Attribute], Field(max_length=MAX_ATTRIBUTES)] | None = None
    deadline_ms: DeadlineMs | None = None


class PopularRequest(_Message):
    """Ask for what is popular.

    Attributes:
        k: items wanted.
        placement: where it is popular; None is anywhere. `all` is the same everywhere.
        window: `all` is the data of the bundle; `24h` and `7d` are live acts that fade with that mean lifetime.
    """

    request_id: RawId | None = None
    k: SlateSize = 10
    placement: Placement | None = None
    window: Window = "all"


class Reason(_Message):
    """Why an item is on the slate: `item_id` is the item of the history it rests on, weight is in 0..1."""

    code: ReasonCode
    item_id: str | None = None
    weight: float


class SlateItem(_Message):
    """One recommended item; rank starts at 1, a higher score is better.

    `propensity` is the probability with which the exploration policy puts this item at this rank, given the candidates
    and the items above; 1.0 when nothing was left to chance.
    """

    item_id: str
    rank: int
    score: float
    sources: list[Source]
    reasons: list[Reason] = []
    attributes: dict[str, Any] = {}
    propensity: float = 1.0


class BundleInfo(_Message):
    """Which bundle answered."""

    id: str
    created_at: datetime
    model: str


class Degraded(_Message):
    """Whether the answer rests on less than it could have, why, and what the deadline left out."""

    is_degraded: bool = False
    reasons: list[DegradedReason] = []
    stages_skipped: list[str] = []


class ExperimentInfo(_Message):
    """Which experiment a request took part in, and which variant answered."""

    id: str
    variant: str


class SlateResponse(_Message):
    """The answer to recommend, similar and popular. `took_ms` has one entry per stage, and `total`.

    `recommendation_id` is a signed token; events that echo it as `recommendation_token` are attributed to this answer.
    """

    request_id: str
    recommendation_id: str | None = None
    items: list[SlateItem]
    bundle: BundleInfo
    experiment: ExperimentInfo | None = None
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
    """The newest events of a user, newest first: live ones, then those of the bundle.

    `num_events` counts all of them and is 0 for an unknown user; `num_live` of them came since the bundle was made.
    """

    user_id: str
    num_events: int
    num_live: int = 0
    items: list[CatalogueItem]


class Health(_Message):
    """Answer of the probes: `status` is `ok`, or `ready` once a bundle is open."""

    status: Literal["ok", "ready"]
    bundle: str | None = None


class RankerInfo(_Message):
    """The second stage of a bundle: the run it comes from, what it predicts, and what it reaches on the test cases."""

    run: str
    heads: list[str]
    metrics: dict[str, float]


class Version(_Message):
    """What is running: package, bundle, and what the bundle says about its models.

    `metrics` are those of the retriever, `bundle.model`; `ranker` orders the slate where there is one.
    """

    package: str
    bundle: BundleInfo
    data: str
    num_items: int
    num_users: int
    index: str
    metrics: dict[str, float]
    ranker: RankerInfo | None = None


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
    code: ProblemCode
    errors: list[FieldProblem] = []
