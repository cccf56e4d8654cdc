"""Apply events to the sorted sets of `entries` in one transaction of SQLite, with a few statements for all people.

First all event ids are claimed in one go; mostly all of them are new, and if not, each is claimed by itself. Then what
matters of every person and session is read, where events belong is decided in memory, and one prepared statement writes
all rows. Sets are trimmed when a holder has an eighth more events than it may have, not at every event: until then all
of its sets are a little larger than their bounds, and readers take the newest.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from retrank.serving.stores.entries import (
    Bound,
    Bounds,
    PersonBatch,
    event_entry,
    microseconds,
    person_ttl_s,
    seen_entry,
    tag,
)
from retrank.serving.stores.protocol import LiveEvent
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_schema import EVENTS, EXPIRES, IDS, SEEN, SESSIONS

_SWEEP = 500
"""Rows of expired people and sessions that each transaction removes at most; it adds far fewer."""
_SLACK = 8
"""A set may hold one part in so many more than its bound before it is trimmed."""
_EXPIRY_SLACK = 16
"""Expiry is noted one part in so many too late, so that it need not be noted with every event."""
_AT_ONCE = 64

_CLAIM = (
    f"INSERT INTO entry (holder, name, member, score) VALUES (?, {IDS}, ?, ?) ON CONFLICT (holder, name, member)"
    " DO UPDATE SET score = excluded.score WHERE score <= ?"
)
_PUT = (
    "INSERT INTO entry (holder, name, member, score) VALUES (?, ?, ?, ?) ON CONFLICT (holder, name, member)"
    f" DO UPDATE SET score = CASE WHEN name IN ({SESSIONS}, {SEEN}) THEN max(score, excluded.score)"
    " ELSE excluded.score END"
)
_THESE = f"holder IN ({', '.join('?' * _AT_ONCE)})"
_HEADS = f"SELECT holder, name, member, score FROM entry WHERE {_THESE} AND name <= {SESSIONS}"
_COUNTS = f"SELECT holder, count(*) FROM entry WHERE {_THESE} AND name = {EVENTS} GROUP BY holder"


@dataclass
class _Holder:
    """What matters of a person or a session before a write: when it may go, its events, a person's sessions."""

    expires_us: int = 0
    num_events: int = 0
    sessions: dict[str, int] = field(default_factory=dict)


class Writer:
    """One transaction that applies events."""

    def __init__(self, connection: sqlite3.Connection, settings: StateSettings, now: float) -> None:
        """Begin inside a transaction that may write."""
        self._connection, self._settings = connection, settings
        self._bounds, self._now_us = Bounds.at(settings, now), microseconds(now)
        self._holders: dict[bytes, _Holder] = {}
        self._rows: list[tuple[bytes, int, str, int]] = []
        self._people_to_trim: set[bytes] = set()
        self._sessions_to_trim: set[bytes] = set()

    def apply(self, tenant: str, people: Sequence[PersonBatch]) -> list[int]:
        """Apply what is new of people's events, and remove some of what expired; returns the places of the new ones."""
        new = self._claimed(people)
        visits = [_by_session(tenant, person.events) for person in new]
        names = {*(person.tag for person in new), *(session for visit in visits for session in visit)}
        self._read(sorted(map(bytes.fromhex, names)))
        for person, visit in zip(new, visits, strict=True):
            self._put_person(person)
            self._put_sessions(person.tag, visit)
        self._connection.executemany(_PUT, self._rows)
        self._trim_all()
        self._sweep()
        return [place for person in new for place in person.places]

    def _claimed(self, people: Sequence[PersonBatch]) -> list[PersonBatch]:
        """Remember all event ids and return what was not there, or had been forgotten; once each."""
        people = [_without_repetitions(person) for person in people]
        claims = [[self._claim(person, event) for event in person.events] for person in people]
        self._connection.execute("SAVEPOINT claims")
        rows = [row for of_person in claims for row in of_person]
        if self._connection.executemany(_CLAIM, rows).rowcount == len(rows):
            self._connection.execute("RELEASE claims")
            return people
        self._connection.execute("ROLLBACK TO claims")
        self._connection.execute("RELEASE claims")
        fresh = []
        for person, of_person in zip(people, claims, strict=True):
            left = PersonBatch(person.tag)
            for place, event, row in zip(person.places, person.events, of_person, strict=True):
                if self._connection.execute(_CLAIM, row).rowcount == 1:
                    left.events.append(event)
                    left.places.append(place)
            fresh += [left] if left.events else []
        return fresh

    def _claim(self, person: PersonBatch, event: LiveEvent) -> tuple[bytes, str, int, int]:
        return bytes.fromhex(person.tag), event.event_id, self._now_us, self._bounds.ids.after

    def _read(self, holders: Sequence[bytes]) -> None:
        for holder in holders:
            self._holders[holder] = _Holder()
        for start in range(0, len(holders), _AT_ONCE):
            some = [*holders[start : start + _AT_ONCE]]
            values = [*some, *[None] * (_AT_ONCE - len(some))]
            for holder, name, member, score in self._connection.execute(_HEADS, values):
                if name == SESSIONS:
                    self._holders[holder].sessions[member] = score
                else:
                    self._holders[holder].expires_us = score
            for holder, count in self._connection.execute(_COUNTS, values):
                self._holders[holder].num_events = count

    def _put_person(self, person: PersonBatch) -> None:
        holder, rows = bytes.fromhex(person.tag), self._rows
        for event in person.events:
            score, member = event_entry(event)
            rows.append((holder, EVENTS, member, score))
            score, member = seen_entry(event)
            rows.append((holder, SEEN, member, score))
        ids, events, seen, *_ = self._bounds
        if self._note(holder, len(person.events), person_ttl_s(self._settings), min(ids.keep, events.keep, seen.keep)):
            self._people_to_trim.add(holder)

    def _put_sessions(self, owner: str, visits: dict[str, list[LiveEvent]]) -> None:
        """Keep events under their sessions too, and under the person which sessions those are, for export and erase.

        Somebody in too many sessions at a time is not kept under the further ones, nor under one that is over.
        """
        holder, bound = bytes.fromhex(owner), self._bounds.sessions
        sessions = self._holders[holder].sessions
        alive = {session for session, newest_us in sessions.items() if newest_us > bound.after}
        for session, theirs in visits.items():
            newest_us = max(event.time_us for event in theirs)
            if newest_us <= bound.after or (session not in alive and len(alive) >= bound.keep):
                continue
            alive.add(session)
            self._rows.append((holder, SESSIONS, session, newest_us))
            of_session = bytes.fromhex(session)
            for event in theirs:
                score, member = event_entry(event, owner)
                self._rows.append((of_session, EVENTS, member, score))
            if self._note(of_session, len(theirs), self._settings.session_ttl_s, self._bounds.session_events.keep):
                self._sessions_to_trim.add(of_session)

    def _note(self, holder: bytes, count: int, ttl_s: float, keep: int) -> bool:
        """Note how long a holder lasts; tell whether to trim it, as it has grown or comes back after it had expired."""
        found, expires_us = self._holders[holder], self._now_us + microseconds(ttl_s)
        back = 0 < found.expires_us <= self._now_us
        if found.expires_us < expires_us:
            found.expires_us = expires_us + microseconds(ttl_s / _EXPIRY_SLACK)
            self._rows.append((holder, EXPIRES, "", found.expires_us))
        found.num_events += count
        return back or found.num_events >= keep + max(1, keep // _SLACK)

    def _trim_all(self) -> None:
        bounds = self._bounds
        for holder in self._people_to_trim:
            for name, bound in ((SESSIONS, bounds.sessions), (IDS, bounds.ids), (EVENTS, bounds.events)):
                self._trim(holder, name, bound)
            self._trim(holder, SEEN, bounds.seen)
        for holder in self._sessions_to_trim:
            self._trim(holder, EVENTS, bounds.session_events)

    def _trim(self, holder: bytes, name: int, bound: Bound) -> None:
        """Remove what is too old or too much."""
        values = {"holder": holder, "name": name, "after": bound.after, "keep": bound.keep}
        within = "FROM entry WHERE holder = :holder AND name = :name"
        self._connection.execute(f"DELETE {within} AND score <= :after", values)
        (many,) = self._connection.execute(f"SELECT count(*) > :keep {within}", values).fetchone()
        if many:
            surplus = f"SELECT member {within} ORDER BY score DESC, member DESC LIMIT -1 OFFSET :keep"
            self._connection.execute(f"DELETE {within} AND member IN ({surplus})", values)

    def _sweep(self) -> None:
        expired = f"SELECT holder FROM entry WHERE name = {EXPIRES} AND score <= ? ORDER BY score LIMIT 8"
        left = _SWEEP
        for (holder,) in self._connection.execute(expired, (self._now_us,)).fetchall():
            left -= self._connection.execute(
                "DELETE FROM entry WHERE holder = :holder AND (name, member) IN"
                f" (SELECT name, member FROM entry WHERE holder = :holder AND name > {EXPIRES} LIMIT :left)",
                {"holder": holder, "left": left},
            ).rowcount
            if left <= 0:
                return
            self._connection.execute("DELETE FROM entry WHERE holder = ?", (holder,))


def _without_repetitions(person: PersonBatch) -> PersonBatch:
    first: dict[str, int] = {}
    for index, event in enumerate(person.events):
        first.setdefault(event.event_id, index)
    if len(first) == len(person.events):
        return person
    kept = first.values()
    return PersonBatch(person.tag, [person.events[i] for i in kept], [person.places[i] for i in kept])


def _by_session(tenant: str, events: Iterable[LiveEvent]) -> dict[str, list[LiveEvent]]:
    """Return events by the tag of their session, without those that have none."""
    found: dict[str, list[LiveEvent]] = {}
    for event in events:
        if event.session_id is not None:
            found.setdefault(tag("session", tenant, event.session_id), []).append(event)
    return found
