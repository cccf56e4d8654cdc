"""Events as they travel: what callers post, what the event log holds, what comes back as training data.

The wire form is JSON, one object per event. `event_id` is the caller's: the same id from the same person within
`DEDUP_DAYS` is the same event, however often it is sent.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from retrank.contract.api import Problem, RawId

MAX_EVENTS = 1_000
DEDUP_DAYS = 7
MAX_VALUE = 1e12
"""Largest amount of an event, either way: beyond it nothing is a rating, a price or a quantity, and sums overflow."""
EventType = Literal["impression", "click", "cart", "purchase", "rating", "dismiss", "custom"]

_VALUES: JsonDict = {"minimum": -MAX_VALUE, "maximum": MAX_VALUE}  # kept at intake: what is in a log must stay readable


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(_Message):
    """One thing a person did, or was shown.

    Attributes:
        event_id: names this event; chosen by the caller, so that sending it again does no harm.
        type: what happened; `custom` needs a `name`, other than those of the types.
        user_id, anonymous_id: who; at least one, or a `session_id`.
        item_id: with what.
        at: when, with a time zone; None means when it arrived. Not more than an hour ahead, nor older than the service
            is told to believe (ten years).
        value: rating, amount paid or quantity; -`MAX_VALUE` to `MAX_VALUE`.
        recommendation_token: the signed token of the answer that showed the item, for attribution.
        placement: where on the page or in the app.
        context: what else was known at that moment; at most 32 keys.
    """

    event_id: RawId
    type: EventType
    item_id: RawId
    user_id: RawId | None = None
    anonymous_id: RawId | None = None
    session_id: RawId | None = None
    at: datetime | None = None
    name: RawId | None = None
    value: Annotated[float, Field(allow_inf_nan=False, json_schema_extra=_VALUES)] | None = None
    recommendation_token: Annotated[str, Field(max_length=2_048)] | None = None
    placement: RawId | None = None
    context: Annotated[dict[str, JsonValue], Field(max_length=32)] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.user_id is None and self.anonymous_id is None and self.session_id is None:
            raise ValueError("nobody did this; give user_id, anonymous_id or session_id")
        if self.type == "custom" and self.name is None:
            raise ValueError("a custom event needs a name")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError("at has no time zone; write 2026-01-31T12:00:00Z, for instance")
        return self

    @property
    def person(self) -> str:
        """Key of the person in every store; see `person_key`."""
        return person_key(self.user_id, self.anonymous_id, self.session_id)


_Posted = Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]


class EventBatch(_Message):
    """Body of `POST /v1/events`. Events are checked one by one, so that a bad one does not stop the others."""

    events: Annotated[list[_Posted], Field(min_length=1, max_length=MAX_EVENTS)]


class RejectedEvent(_Message):
    """One event that was not taken: its place in the batch and why."""

    index: int
    event_id: str | None
    detail: str


class EventReceipt(_Message):
    """Answer of `POST /v1/events`: everything counted in `accepted` is on disk."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent] = []


class EventsRefused(Problem):
    """Answer when not one event could be taken; `receipt` names all of them, `errors` the first."""

    receipt: EventReceipt


def person_key(user_id: str | None, anonymous_id: str | None, session_id: str | None) -> str:
    """Return the key of a person: the most lasting of the ids at hand, marked with its kind; "" for nobody."""
    for mark, value in (("u:", user_id), ("a:", anonymous_id), ("s:", session_id)):
        if value is not None:
            return mark + value
    return ""
