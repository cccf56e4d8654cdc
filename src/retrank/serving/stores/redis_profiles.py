"""Profiles, sessions and seen memory in Redis: the sorted sets of `entries` as sorted sets.

    PREFIX:{TAG}:ids | events | seen | sessions      of a person
    PREFIX:{TAG}:events                              of a session
    PREFIX:{erased}:version | marks                  who was erased lately

TAG is a hash of tenant and id in the braces of a Cluster's hash tag, so all keys of a person share a slot and one
script deduplicates and applies. A session lies in a slot of its own. So its part is written in between: a failure there
leaves events that count as new when they are sent again, and adding them to the session twice does not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import JsonValue

from retrank.serving.stores.entries import (
    MAX_MARKS,
    Bounds,
    Entry,
    PersonBatch,
    SetName,
    by_person,
    event_entry,
    exported,
    microseconds,
    owned,
    person_ttl_s,
    read_profile,
    seen_entry,
    tag,
)
from retrank.serving.stores.protocol import Erased, PersonEvent, Profile
from retrank.serving.stores.redis_connection import Call, Connection
from retrank.serving.stores.redis_scripts import APPLY, ERASE, ERASED_SINCE, JOIN, LINK, MARK_ERASED
from retrank.serving.stores.settings import StateSettings

_ALL = ("-inf", "+inf", "WITHSCORES")


class RedisProfiles:
    """The `Profiles` part of the store."""

    def __init__(self, connection: Connection, settings: StateSettings) -> None:
        """Keep profiles behind a connection."""
        self._connection, self._settings = connection, settings

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Apply events, person by person at once; see `Profiles.apply`."""
        bounds, batches = Bounds.at(self._settings, now), by_person(tenant, events)
        self._apply_to_sessions(tenant, batches, bounds)
        ttl_ms = _milliseconds(person_ttl_s(self._settings))
        limits = (*bounds.ids, *bounds.events, *bounds.seen)
        calls = []
        for batch in batches:
            words: list[str | int] = []
            for event in batch.events:
                words += [event.event_id, event.time_us, event_entry(event)[1], seen_entry(event)[1]]
            keys = self._profile_keys(batch.tag, "ids", "events", "seen")
            calls.append(Call(APPLY, keys, (microseconds(now), ttl_ms, *limits, *words)))
        fresh = [False] * len(events)
        for batch, flags in zip(batches, self._connection.run(calls), strict=True):
            for place, flag in zip(batch.places, flags, strict=True):
                fresh[place] = flag == 1
        return fresh

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Tell which events were applied before."""
        after = Bounds.at(self._settings, now).ids.after
        calls = [
            Call("ZSCORE", self._profile_keys(tag("person", tenant, person), "ids"), (event.event_id,))
            for person, event in events
        ]
        return [score is not None and float(score) > after for score in self._connection.run(calls)]

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        """Return what is known of a person and of the session at hand, in one round trip."""
        bounds, person_tag = Bounds.at(self._settings, now), tag("person", tenant, person)
        wanted = [(person_tag, "events", bounds.events), (person_tag, "seen", bounds.seen)]
        if session_id is not None:
            wanted.append((tag("session", tenant, session_id), "events", bounds.session_events))
        calls = [
            Call("ZRANGEBYSCORE", self._profile_keys(name, part), (f"({bound.after}", *_ALL[1:]))
            for name, part, bound in wanted
        ]
        events, seen, *session = map(_entries, self._connection.run(calls))
        return read_profile(person_tag, events, seen, session[0] if session else [])

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person."""
        person_tag = tag("person", tenant, person)
        names: tuple[SetName, ...] = ("events", "seen", "ids")
        for name in names:
            yield from exported(name, self._set(person_tag, name))
        for session, entries in self._of_sessions(person_tag):
            del session
            yield from exported("sessions", entries)

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, in their sessions first, so that an erasure that fails can be asked for again.

        Word of it comes first and last: a replica that reads the profile in between forgets it again.
        """
        person_tag = tag("person", tenant, person)
        found = self._of_sessions(person_tag)
        mark = Call(MARK_ERASED, self._mark_keys(), (MAX_MARKS, person_tag, *(session for session, _ in found)))
        self._connection.run_one(mark)
        calls = [
            Call("ZREM", self._profile_keys(session, "events"), tuple(member for _, member in entries))
            for session, entries in found
            if entries
        ]
        erased = sum(self._connection.run(calls))
        keys = self._profile_keys(person_tag, "ids", "events", "seen", "sessions")
        erased += self._connection.run_one(Call(ERASE, keys))
        self._connection.run_one(mark)
        return int(erased)

    def erased_since(self, version: int) -> Erased:
        """Return whom to forget since a version."""
        newest, marks = self._connection.run_one(Call(ERASED_SINCE, self._mark_keys(), (version,)))
        tags = tuple(mark.partition(":")[2] for mark in marks)
        return Erased(int(newest), tags if int(newest) - version == len(tags) else None)

    def _apply_to_sessions(self, tenant: str, batches: Sequence[PersonBatch], bounds: Bounds) -> None:
        """Keep events under their sessions too, and under each person which sessions those are."""
        asked = [batch for batch in batches if any(event.session_id is not None for event in batch.events)]
        sessions = [[_session_tag(tenant, event.session_id) for event in batch.events] for batch in asked]
        ttl_ms = _milliseconds(self._settings.session_ttl_s)
        calls = []
        for batch, tags in zip(asked, sessions, strict=True):
            words: list[str | int] = []
            for event, session in zip(batch.events, tags, strict=True):
                words += [event.event_id, session, event.time_us]
            keys = self._profile_keys(batch.tag, "ids", "sessions")
            calls.append(Call(LINK, keys, (ttl_ms, bounds.ids.after, *bounds.sessions, *words)))
        members: dict[str, list[str | int]] = {}
        for batch, tags, flags in zip(asked, sessions, self._connection.run(calls), strict=True):
            for event, session, flag in zip(batch.events, tags, flags, strict=True):
                if flag == 1:
                    members.setdefault(session, []).extend(event_entry(event, batch.tag))
        self._connection.run(
            [
                Call(JOIN, self._profile_keys(session, "events"), (ttl_ms, *bounds.session_events, *words))
                for session, words in members.items()
            ]
        )

    def _of_sessions(self, person_tag: str) -> list[tuple[str, list[Entry]]]:
        """Return the tags of a person's sessions, in order, with the entries there that are theirs."""
        sessions = sorted(member for _, member in self._set(person_tag, "sessions"))
        found = self._connection.run(
            [Call("ZRANGEBYSCORE", self._profile_keys(session, "events"), _ALL) for session in sessions]
        )
        return [(name, owned(_entries(answer), person_tag)) for name, answer in zip(sessions, found, strict=True)]

    def _set(self, name: str, part: SetName) -> list[Entry]:
        return _entries(self._connection.run_one(Call("ZRANGEBYSCORE", self._profile_keys(name, part), _ALL)))

    def _mark_keys(self) -> tuple[str, str]:
        return f"{self._settings.key_prefix}:{{erased}}:version", f"{self._settings.key_prefix}:{{erased}}:marks"

    def _profile_keys(self, name: str, *parts: str) -> tuple[str, ...]:
        return tuple(f"{self._settings.key_prefix}:{{{name}}}:{part}" for part in parts)


def _session_tag(tenant: str, session_id: str | None) -> str | Literal[""]:
    return "" if session_id is None else tag("session", tenant, session_id)


def _entries(answer: Sequence[Any]) -> list[Entry]:
    """Read the flat list of members and scores."""
    return [(int(float(score)), member) for member, score in zip(answer[::2], answer[1::2], strict=True)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
