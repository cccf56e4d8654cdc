"""Which events of a batch can be taken, and why the others cannot."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from retrank.contract.api import MAX_ID_LENGTH
from retrank.contract.events import MAX_VALUE, Event, EventType, RejectedEvent
from retrank.contract.field_faults import fault_of
from retrank.contract.moments import HOUR_US
from retrank.serving.events.records import (
    MAX_EVENT_BYTES,
    DeadLetter,
    event_bytes,
    event_time_us,
    person_event,
)
from retrank.serving.stores.protocol import PersonEvent

MAX_AHEAD_US = HOUR_US
"""A stated time further in the future than this is a wrong clock or a wrong unit."""
MAX_AGE_S = 3_650 * 86_400.0
"""Ten years. Nothing that a shop still learns from is older; a date without its century is, and so is a zero."""

_TYPES = frozenset(get_args(EventType)) - {"custom"}


class Taken(NamedTuple):
    """An event that can be taken: what the profile store keeps, its JSON, and its token if it brought one."""

    person_event: PersonEvent
    encoded: bytes
    token: str | None = None


class Checked(NamedTuple):
    """A batch, sorted."""

    taken: list[Taken]
    rejected: list[RejectedEvent]
    letters: list[DeadLetter]


def check(events: Sequence[Any], *, tenant: str, arrived_us: int, max_age_s: float = MAX_AGE_S) -> Checked:
    """Check events one by one.

    Args:
        events: as they were posted.
        tenant: whose namespace they belong to.
        arrived_us: when they arrived, microseconds since the Unix epoch.
        max_age_s: a stated time longer before that is not believed.
    """
    checked = Checked([], [], [])
    for index, raw in enumerate(events):
        taken = _check(raw, arrived_us, max_age_s)
        if isinstance(taken, Taken):
            checked.taken.append(taken)
            continue
        event_id = raw.get("event_id") if isinstance(raw, Mapping) else None
        named = _clean(event_id) if isinstance(event_id, str) and len(event_id) <= MAX_ID_LENGTH else None
        checked.rejected.append(RejectedEvent(index=index, event_id=named, detail=taken))
        checked.letters.append(DeadLetter(tenant=tenant, arrived_us=arrived_us, detail=taken, raw=_plain(raw)))
    return checked


def _check(raw: Any, arrived_us: int, max_age_s: float) -> Taken | str:
    if not isinstance(raw, Mapping):
        return "expected a JSON object: an event with event_id, type, item_id and who did it"
    try:
        event = Event.model_validate(raw)
        encoded = event_bytes(event)
        doubt = _doubt(event, arrived_us, max_age_s)
        if doubt is not None:
            return doubt
    except ValidationError as error:
        return _detail(error)
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, a time out of range, a context too deep
        return "cannot be written as JSON in UTF-8, or its time is out of range"
    if len(encoded) > MAX_EVENT_BYTES:
        return f"has {len(encoded):,} bytes as JSON, expected at most {MAX_EVENT_BYTES:,}; shorten context"
    return Taken(person_event(event, arrived_us), encoded, event.recommendation_token)


def _doubt(event: Event, arrived_us: int, max_age_s: float) -> str | None:
    """Return why a well-formed event is not believed."""
    time_us = event_time_us(event, arrived_us)
    if time_us > arrived_us + MAX_AHEAD_US:
        return "at: more than an hour in the future; check the clock and the time zone"
    if time_us < arrived_us - max_age_s * 1e6:
        return f"at: more than {max_age_s / 86_400:,.0f} days ago; check the date and its unit"
    if event.value is not None and abs(event.value) > MAX_VALUE:
        return f"value: expected {-MAX_VALUE:g} to {MAX_VALUE:g}, got {event.value!r}; check the unit"
    if event.type == "custom" and event.name in _TYPES:
        return f"name: {event.name} is a type, and a custom event of that name would count as one; choose another"
    return None


def _detail(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = _clean(".".join(str(part) for part in first["loc"])[:128])
    message = fault_of(first)
    return f"{where}: {message}" if where else message


def _clean(text: str) -> str:
    """Return text that UTF-8 can hold; a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _plain(raw: Any) -> dict[str, Any] | None:
    """Return the event if it is an object that JSON can hold."""
    if not isinstance(raw, Mapping):
        return None
    try:
        json.dumps(raw, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return dict(raw)
