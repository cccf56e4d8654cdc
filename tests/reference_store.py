"""The state store as it reads in the contract: dicts, no bounds on speed. The oracle of every real one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import JsonValue

from retrank.serving.stores.entries import tag
from retrank.serving.stores.protocol import Document, Erased, ItemChange, LiveEvent, PersonEvent, Profile
from retrank.serving.stores.settings import StateSettings

_DEDUP_S = 7 * 86_400
_Key = TypeVar("_Key")


@dataclass
class _Person:
    applied: dict[str, float] = field(default_factory=dict)
    events: dict[str, LiveEvent] = field(default_factory=dict)
    seen: dict[tuple[str, str], int] = field(default_factory=dict)


def _since(now: float, ttl_s: float) -> float:
    return (now - ttl_s) * 1e6


def _newest(events: dict[_Key, LiveEvent], keep: int, after_us: float) -> dict[_Key, LiveEvent]:
    alive = [(key, event) for key, event in events.items() if event.time_us > after_us]
    alive.sort(key=lambda pair: (pair[1].time_us, pair[1].event_id))
    return dict(alive[-keep:])


class ReferenceStore:
    """Implements `StateStore` without a backend."""

    def __init__(self, settings: StateSettings) -> None:
        self.settings = settings
        self.people: dict[tuple[str, str], _Person] = {}
        self.sessions: dict[tuple[str, str], dict[tuple[str, str], LiveEvent]] = {}
        self.items: dict[str, dict[str, ItemChange]] = {}
        self.versions: dict[str, int] = {}
        self.forgotten: dict[str, int] = {}
        self.until: dict[str, float] = {}
        self.documents: dict[str, Document] = {}
        self.erased: list[tuple[str, str]] = []
        self.alive: dict[str, tuple[float, JsonValue]] = {}

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        fresh = []
        for person, event in events:
            [known] = self.known(tenant, [PersonEvent(person, event)], now)
            fresh.append(not known)
            if not known:
                self._apply(tenant, person, event, now)
        return fresh

    def _apply(self, tenant: str, person: str, event: LiveEvent, now: float) -> None:
        limits, mine = self.settings, self.people.setdefault((tenant, person), _Person())
        mine.applied[event.event_id] = now
        mine.events[event.event_id] = event
        mine.events = _newest(mine.events, limits.max_events_per_person, _since(now, limits.events_ttl_s))
        key = (event.item_id, event.kind)
        mine.seen[key] = max(event.time_us, mine.seen.get(key, event.time_us))
        order = sorted(mine.seen, key=lambda pair: mine.seen[pair])
        mine.seen = {pair: mine.seen[pair] for pair in order[-limits.max_seen_per_person :]}
        if event.session_id is not None:
            session = self.sessions.get((tenant, event.session_id), {}) | {(person, event.event_id): event}
            after = _since(now, limits.session_ttl_s)
            self.sessions[tenant, event.session_id] = _newest(session, limits.max_events_per_session, after)

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        applied = [self.people.get((tenant, person), _Person()).applied.get(e.event_id) for person, e in events]
        return [at is not None and at > now - _DEDUP_S for at in applied]

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        limits, mine = self.settings, self.people.get((tenant, person), _Person())
        found = {(person, event.event_id): event for event in mine.events.values()}
        found = _newest(found, limits.max_events_per_person, _since(now, limits.events_ttl_s))
        session = {} if session_id is None else self.sessions.get((tenant, session_id), {})
        session = _newest(session, limits.max_events_per_session, _since(now, limits.session_ttl_s))
        seen: dict[str, dict[str, int]] = {}
        for (item_id, kind), time_us in mine.seen.items():
            if time_us > _since(now, limits.seen_ttl_s):
                seen.setdefault(item_id, {})[kind] = time_us
        for event in session.values():
            kinds = seen.setdefault(event.item_id, {})
            kinds[event.kind] = max(event.time_us, kinds.get(event.kind, event.time_us))
        events = sorted((session | found).values(), key=lambda event: (event.time_us, event.event_id))
        return Profile(tuple(events), seen)

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        mine = self.people.get((tenant, person), _Person())
        for event in mine.events.values():
            yield {"what": "event", **event._asdict()}
        for (item_id, kind), time_us in mine.seen.items():
            yield {"what": "seen", "item_id": item_id, "kind": kind, "time_us": time_us}
        for event_id, at in mine.applied.items():
            yield {"what": "event_id", "event_id": event_id, "applied_at_us": round(at * 1e6)}
        for (other, _), session in self.sessions.items():
            for (owner, _), event in session.items():
                if (other, owner) == (tenant, person):
                    yield {"what": "session_event", **event._asdict()}

    def erase(self, tenant: str, person: str) -> int:
        gone = len(list(self.export(tenant, person)))
        self.people.pop((tenant, person), None)
        for (other, _), session in self.sessions.items():
            for key in [key for key in session if (other, key[0]) == (tenant, person)]:
                del session[key]
        self.erased.append((tenant, person))
        return gone

    def erased_since(self, version: int) -> Erased:
        later = self.erased[version:]
        return Erased(len(self.erased), tuple(tag("person", tenant, person) for tenant, person in later))

    def change_items(self, tenant: str, changes: Sequence[ItemChange]) -> int:
        for change in changes:
            self.versions[tenant] = self.versions.get(tenant, 0) + 1
            before = self.items.setdefault(tenant, {}).get(change.item_id)
            if change.attributes is None and before is not None:
                change = change._replace(attributes=before.attributes)  # noqa: PLW2901
            self.items[tenant][change.item_id] = change._replace(version=self.versions[tenant])
        return self.versions.get(tenant, 0)

    def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
        found = [change for change in self.items.get(tenant, {}).values() if change.version > after]
        return sorted(found, key=lambda change: change.version)

    def forget_changes(self, tenant: str, up_to: int) -> int:
        items = self.items.get(tenant, {})
        gone = [item_id for item_id, change in items.items() if change.version <= up_to]
        for item_id in gone:
            del items[item_id]
        self.forgotten[tenant] = max(self.forgotten.get(tenant, 0), min(up_to, self.versions.get(tenant, 0)))
        return len(gone)

    def forgotten_changes(self, tenant: str) -> int:
        return self.forgotten.get(tenant, 0)

    def document(self, name: str) -> Document:
        return self.documents.get(name, Document(0, None))

    def write(self, name: str, value: JsonValue, expected: int, until: float | None = None) -> bool:
        if self.document(name).version != expected:
            return False
        self.documents[name] = Document(expected + 1, value)
        self.until[name] = math.inf if until is None else until
        return True

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        self.alive[replica] = now + ttl_s, status
        self.documents = {name: kept for name, kept in self.documents.items() if self.until[name] > now}

    def beats(self, now: float) -> dict[str, JsonValue]:
        return {replica: status for replica, (until, status) in self.alive.items() if until > now}

    def ping(self) -> None: ...

    def close(self) -> None: ...
