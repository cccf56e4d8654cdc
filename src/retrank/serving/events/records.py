"""What the log holds: one JSON object per event, dead letter or erasure.

An event record is `{"n": ..., "tenant": ..., "arrived_us": ..., "event": {...}}`, and `"attributed"` when the event
brought a token; an order to erase somebody has `"erase": "<person>"` instead of the event. `n` counts the records of
one writer and grows along its segments; "applied below n" therefore says which records still have to reach the
profiles.

The stream `erasures` names persons by `person_digest` only: the note that somebody was erased outlives the data.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from retrank.contract.errors import DataError
from retrank.contract.events import Event, person_key
from retrank.serving.stores.protocol import LiveEvent, PersonEvent

MAX_EVENT_BYTES = 64 << 10
"""Of one event as JSON; what is larger is refused."""
MAX_RAW_BYTES = 16 << 10
"""Of a refused event that a dead letter keeps."""
_EVENT = TypeAdapter(Event)


class EventRecord(BaseModel):
    """An accepted event, or an order to erase a person: its number in its writer's log and when it arrived.

    `attributed` says whether this service handed out the token of the event, to this tenant; None when the event
    brought none, or nobody looked.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    n: int
    tenant: str
    arrived_us: int
    attributed: bool | None = None
    event: Event | None = None
    erase: str | None = None

    def change(self) -> "Change":
        """Return what it does to the profile store."""
        event = None if self.event is None else person_event(self.event, self.arrived_us)
        return Change(self.tenant, self.arrived_us, event, self.erase)


class Change(NamedTuple):
    """What a record does to the profile store: one event, or one person erased."""

    tenant: str
    arrived_us: int
    event: PersonEvent | None
    erase: str | None = None


class DeadLetter(BaseModel):
    """An event that was refused: why, and as much of it as fits; `raw` is None when it could not be kept whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    arrived_us: int
    detail: str
    raw: dict[str, Any] | None = None

    @property
    def person(self) -> str:
        """Key of the person it names; "" when it names nobody."""
        ids = [(self.raw or {}).get(name) for name in ("user_id", "anonymous_id", "session_id")]
        return person_key(*(name if isinstance(name, str) else None for name in ids))

    def encode(self) -> bytes:
        """Return the record."""
        whole = self.model_dump_json().encode()
        return (
            whole if len(whole) <= MAX_RAW_BYTES else self.model_copy(update={"raw": None}).model_dump_json().encode()
        )


class Erasure(BaseModel):
    """A person was erased at a moment: no event of that person that arrived until then may be used again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    person_sha256: str
    erased_us: int

    def encode(self) -> bytes:
        """Return the record."""
        return self.model_dump_json().encode()


class Erasures(NamedTuple):
    """Who was erased, and when for the last time: digest -> microseconds."""

    newest: Mapping[str, int]

    def cover(self, tenant: str, person: str, arrived_us: int) -> bool:
        """Tell whether an event was erased."""
        if not self.newest:
            return False
        return arrived_us <= self.newest.get(person_digest(tenant, person), -1)


def person_digest(tenant: str, person: str) -> str:
    """Return the name of a person in erasures."""
    return hashlib.sha256(f"{tenant}\0{person}".encode()).hexdigest()


def event_bytes(event: Event) -> bytes:
    """Return an event as JSON without the fields that were not given."""
    return _EVENT.dump_json(event, exclude_none=True)


def encode_event(event: bytes, *, n: int, tenant: str, arrived_us: int, attributed: bool | None = None) -> bytes:
    """Return the record of an event that `event_bytes` made."""
    said = b"" if attributed is None else b'"attributed":%s,' % json.dumps(attributed).encode()
    head = b'{"n":%d,"tenant":%s,"arrived_us":%d,' % (n, json.dumps(tenant).encode(), arrived_us)
    return b'%s%s"event":%s}' % (head, said, event)


def encode_erase(person: str, *, n: int, tenant: str, arrived_us: int) -> bytes:
    """Return the record that orders a person erased."""
    return json.dumps({"n": n, "tenant": tenant, "arrived_us": arrived_us, "erase": person}).encode()


def decode_event(record: bytes) -> EventRecord:
    """Return the event, or the order, of a record.

    Raises:
        DataError: it is not one; the message holds nothing of its content.
    """
    try:
        return EventRecord.model_validate_json(record)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(
            f"a record of {len(record):,} bytes is not an event ({where}); a newer version wrote it?"
        ) from None


def event_time_us(event: Event, arrived_us: int) -> int:
    """Return when an event happened, in microseconds since the Unix epoch: as stated, or its arrival."""
    return arrived_us if event.at is None else round(event.at.timestamp() * 1e6)


def person_event(event: Event, arrived_us: int) -> PersonEvent:
    """Return what the profile store keeps of an event."""
    kind = event.name if event.type == "custom" and event.name else event.type
    time_us = event_time_us(event, arrived_us)
    return PersonEvent(event.person, LiveEvent(event.event_id, kind, event.item_id, time_us, event.session_id))
