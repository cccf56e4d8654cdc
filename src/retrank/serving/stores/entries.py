"""What profile stores keep, in one form for all of them: sorted sets of short texts.

A person has four (`ids`, `events`, `seen`, `sessions`), a session has one (`events`). A set is ordered by score, then
by the bytes of its members, and trimmed to the newest. A member of `events` starts with the event id and a NUL, so that
equal times are ordered by id.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from retrank.contract.events import DEDUP_DAYS
from retrank.contract.moments import SECOND_US
from retrank.serving.stores.protocol import LiveEvent, PersonEvent, Profile
from retrank.serving.stores.settings import StateSettings

SetName = Literal["ids", "events", "seen", "sessions"]
Entry = tuple[int, str]
"""Score in microseconds (|score| < 2**53, so that a double holds it) and member."""

DEDUP_S = DEDUP_DAYS * 86_400.0
MAX_MARKS = 10_000
"""Tags that a store keeps word of as erased; whoever asks less often than so many go forgets everybody."""


class Bound(NamedTuple):
    """What a set may hold: the `keep` newest entries whose score is above `after`, in microseconds."""

    keep: int
    after: int


class Bounds(NamedTuple):
    """The bounds of every set at one moment."""

    ids: Bound
    events: Bound
    seen: Bound
    sessions: Bound
    session_events: Bound

    @classmethod
    def at(cls, settings: StateSettings, now: float) -> "Bounds":
        """Return the bounds at `now`, in seconds since the epoch."""

        def bound(keep: int, ttl_s: float) -> Bound:
            return Bound(keep, microseconds(now - ttl_s))

        return cls(
            ids=bound(settings.max_event_ids_per_person, DEDUP_S),
            events=bound(settings.max_events_per_person, settings.events_ttl_s),
            seen=bound(settings.max_seen_per_person, settings.seen_ttl_s),
            sessions=bound(settings.max_sessions_per_person, settings.session_ttl_s),
            session_events=bound(settings.max_events_per_session, settings.session_ttl_s),
        )


@dataclass
class PersonBatch:
    """The events of one person in a batch; `places` are their indices in it."""

    tag: str
    events: list[LiveEvent] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


def microseconds(seconds: float) -> int:
    """Return whole microseconds."""
    return round(seconds * SECOND_US)


def person_ttl_s(settings: StateSettings) -> float:
    """Return after how many idle seconds nothing of a person is worth keeping."""
    return max(settings.events_ttl_s, settings.seen_ttl_s, settings.session_ttl_s, DEDUP_S)


def tag(kind: Literal["person", "session", "catalogue"], tenant: str, name: str) -> str:
    """Return the name under which something is kept: a hash, so that it has one length and shows no id.

    It hides nothing from somebody who can guess the id.
    """
    text = f'["{kind}", {encode_basestring_ascii(tenant)}, {encode_basestring_ascii(name)}]'
    return blake2b(text.encode(), digest_size=16).hexdigest()


def by_person(tenant: str, events: Sequence[PersonEvent]) -> list[PersonBatch]:
    """Group a batch by person, in order of appearance."""
    batches: dict[str, PersonBatch] = {}
    for place, (person, event) in enumerate(events):
        batch = batches.get(person)
        if batch is None:
            batch = batches[person] = PersonBatch(tag("person", tenant, person))
        batch.events.append(event)
        batch.places.append(place)
    return list(batches.values())


def event_entry(event: LiveEvent, owner: str | None = None) -> Entry:
    """Return the entry of an event in the set of its person, or in the set of a session with its owner's tag."""
    session = "null" if event.session_id is None else encode_basestring(event.session_id)
    mark = "" if owner is None else f',"{owner}"'
    kind, item = encode_basestring(event.kind), encode_basestring(event.item_id)
    return event.time_us, f"{event.event_id}\0[{kind},{item},{session}{mark}]"


def seen_entry(event: LiveEvent) -> Entry:
    """Return the entry of an event in `seen`."""
    return event.time_us, f"[{encode_basestring(event.item_id)},{encode_basestring(event.kind)}]"


def newest(entries: list[Entry], bound: Bound) -> list[Entry]:
    """Return the entries of a set that are within its bound, where a store keeps some more for a while."""
    return entries if len(entries) <= bound.keep else sorted(entries)[-bound.keep :]


def read_events(entries: Iterable[Entry]) -> list[tuple[LiveEvent, str | None]]:
    """Return the event of each entry, and its owner if it is one of a session."""
    times, members = _split(entries)
    parts = [member.rpartition("\0") for member in members]
    return [
        (LiveEvent(event_id, kind, item_id, time_us, session_id), owner[0] if owner else None)
        for time_us, (event_id, _, _), (kind, item_id, session_id, *owner) in zip(
            times, parts, _loads([text for _, _, text in parts]), strict=True
        )
    ]


def read_profile(person_tag: str, events: Iterable[Entry], seen: Iterable[Entry], session: Iterable[Entry]) -> Profile:
    """Put together what is known of a person and of the session at hand."""
    found = {(person_tag, event.event_id): event for event, _ in read_events(events)}
    seen_at: dict[str, dict[str, int]] = {}
    times, members = _split(seen)
    for time_us, (item_id, kind) in zip(times, _loads(members), strict=True):
        seen_at.setdefault(item_id, {})[kind] = time_us
    for event, owner in read_events(session):
        found.setdefault((owner or person_tag, event.event_id), event)
        kinds = seen_at.setdefault(event.item_id, {})
        kinds[event.kind] = max(event.time_us, kinds.get(event.kind, event.time_us))
    ordered = sorted(found.values(), key=lambda event: (event.time_us, event.event_id))
    return Profile(tuple(ordered), seen_at)


def _split(entries: Iterable[Entry]) -> tuple[list[int], list[str]]:
    kept = list(entries)
    return [score for score, _ in kept], [member for _, member in kept]


def _loads(texts: Sequence[str]) -> list[list[Any]]:
    """Read many short JSON texts in one go, which is several times faster."""
    found: list[list[Any]] = json.loads(f"[{','.join(texts)}]") if texts else []
    return found


def owned(entries: Iterable[Entry], owner: str) -> list[Entry]:
    """Return the entries of a session that belong to a person."""
    kept = list(entries)
    return [entry for entry, (_, theirs) in zip(kept, read_events(kept), strict=True) if theirs == owner]


def exported(name: SetName, entries: Iterable[Entry]) -> Iterator[Mapping[str, JsonValue]]:
    """Yield the entries of one of a person's sets, or of sessions (`sessions`), as people would read them."""
    for score, member in entries:
        if name == "ids":
            yield {"what": "event_id", "event_id": member, "applied_at_us": score}
        elif name == "seen":
            item_id, kind = json.loads(member)
            yield {"what": "seen", "item_id": item_id, "kind": kind, "time_us": score}
        else:
            [(event, _)] = read_events([(score, member)])
            yield {"what": "event" if name == "events" else "session_event", **event._asdict()}
