"""Profiles, sessions and seen memory in SQLite: the sorted sets of `entries` as rows."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from retrank.serving.stores.entries import (
    Bound,
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
from retrank.serving.stores.protocol import LiveEvent, PersonEvent, Profile
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_database import Database

_SWEEP = 500
"""Rows of expired people and sessions that each write removes at most; it adds far fewer."""

_SET = "SELECT score, member FROM entry WHERE holder = (SELECT id FROM holder WHERE tag = ?) AND name = ?"
_PROFILE = """
SELECT 'events', score, member FROM entry
 WHERE holder = (SELECT id FROM holder WHERE tag = :person) AND name = 'events' AND score > :events_after
UNION ALL SELECT 'seen', score, member FROM entry
 WHERE holder = (SELECT id FROM holder WHERE tag = :person) AND name = 'seen' AND score > :seen_after
UNION ALL SELECT 'session', score, member FROM entry
 WHERE holder = (SELECT id FROM holder WHERE tag = :session) AND name = 'events' AND score > :session_after
"""


class SqliteProfiles:
    """The `Profiles` part of the store."""

    def __init__(self, database: Database, settings: StateSettings) -> None:
        """Keep profiles in a database."""
        self._database, self._settings = database, settings

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Apply events in one transaction; see `Profiles.apply`."""
        fresh = [False] * len(events)
        bounds = Bounds.at(self._settings, now)
        with self._database.write() as connection:
            writer = _Writer(connection, self._settings, bounds, microseconds(now))
            for batch in by_person(tenant, events):
                for place in writer.apply(tenant, batch):
                    fresh[place] = True
            writer.sweep()
        return fresh

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Tell which events were applied before."""
        after = Bounds.at(self._settings, now).ids.after
        found = [False] * len(events)
        for batch in by_person(tenant, events):
            rows = self._database.read(
                "SELECT member FROM entry WHERE holder = (SELECT id FROM holder WHERE tag = ?) AND name = 'ids'"
                f" AND score > ? AND member IN ({', '.join('?' * len(batch.events))})",
                [batch.tag, after, *(event.event_id for event in batch.events)],
            )
            applied = {member for (member,) in rows}
            for place, event in zip(batch.places, batch.events, strict=True):
                found[place] = event.event_id in applied
        return found

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        """Return what is known of a person and of the session at hand."""
        bounds = Bounds.at(self._settings, now)
        person_tag = tag("person", tenant, person)
        rows = self._database.read(
            _PROFILE,
            {
                "person": person_tag,
                "session": None if session_id is None else tag("session", tenant, session_id),
                "events_after": bounds.events.after,
                "seen_after": bounds.seen.after,
                "session_after": bounds.session_events.after,
            },
        )
        sets: dict[str, list[Entry]] = {"events": [], "seen": [], "session": []}
        for name, score, member in rows:
            sets[name].append((score, member))
        return read_profile(person_tag, sets["events"], sets["seen"], sets["session"])

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person."""
        person_tag = tag("person", tenant, person)
        names: tuple[SetName, ...] = ("events", "seen", "ids")
        for name in names:
            yield from exported(name, self._database.read(f"{_SET} ORDER BY score, member", (person_tag, name)))
        for _, session in self._database.read(f"{_SET} ORDER BY member", (person_tag, "sessions")):
            entries = self._database.read(f"{_SET} ORDER BY score, member", (session, "events"))
            yield from exported("sessions", owned([(score, member) for score, member in entries], person_tag))

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, in their sessions too."""
        person_tag = tag("person", tenant, person)
        with self._database.write(durable=True) as connection:
            erased = 0
            for _, session in connection.execute(_SET, (person_tag, "sessions")).fetchall():
                theirs = owned(connection.execute(_SET, (session, "events")).fetchall(), person_tag)
                connection.executemany(
                    "DELETE FROM entry WHERE holder = (SELECT id FROM holder WHERE tag = ?) AND name = 'events'"
                    " AND member = ?",
                    [(session, member) for _, member in theirs],
                )
                erased += len(theirs)
            holder = "(SELECT id FROM holder WHERE tag = ?)"
            erased += connection.execute(
                f"DELETE FROM entry WHERE holder = {holder} AND name <> 'sessions'", (person_tag,)
            ).rowcount
            connection.execute(f"DELETE FROM entry WHERE holder = {holder}", (person_tag,))
            connection.execute("DELETE FROM holder WHERE tag = ?", (person_tag,))
        return erased


class _Writer:
    """One transaction that applies events."""

    def __init__(self, connection: sqlite3.Connection, settings: StateSettings, bounds: Bounds, now_us: int) -> None:
        self._connection, self._settings, self._bounds, self._now_us = connection, settings, bounds, now_us

    def apply(self, tenant: str, batch: PersonBatch) -> list[int]:
        """Apply what is new of a person's events and return the places of those."""
        holder = self._holder(batch.tag, person_ttl_s(self._settings))
        new: dict[str, tuple[int, LiveEvent]] = {}
        for place, event in zip(batch.places, batch.events, strict=True):
            if event.event_id not in new and not self._applied(holder, event.event_id):
                new[event.event_id] = place, event
        events = [event for _, event in new.values()]
        self._put(holder, "ids", [(self._now_us, event.event_id) for event in events], self._bounds.ids)
        self._put(holder, "events", map(event_entry, events), self._bounds.events)
        self._put(holder, "seen", map(seen_entry, events), self._bounds.seen, newest=True)
        self._apply_to_sessions(tenant, batch.tag, holder, events)
        return [place for place, _ in new.values()]

    def sweep(self) -> None:
        """Remove some of what expired and was never touched again."""
        expired = "SELECT id FROM holder WHERE expires_us <= ? ORDER BY expires_us LIMIT 8"
        gone = self._connection.execute(expired, (self._now_us,)).fetchall()
        left = _SWEEP
        for (holder,) in gone:
            left -= self._connection.execute(
                "DELETE FROM entry WHERE holder = :holder AND (name, member) IN"
                " (SELECT name, member FROM entry WHERE holder = :holder LIMIT :left)",
                {"holder": holder, "left": left},
            ).rowcount
            if left <= 0:
                return
            self._connection.execute("DELETE FROM holder WHERE id = ?", (holder,))

    def _apply_to_sessions(self, tenant: str, owner: str, holder: int, events: Iterable[LiveEvent]) -> None:
        """Keep events under their sessions too, and under the person which sessions those are, for export and erase."""
        by_session: dict[str, list[LiveEvent]] = {}
        for event in events:
            if event.session_id is not None:
                by_session.setdefault(tag("session", tenant, event.session_id), []).append(event)
        for session, theirs in by_session.items():
            newest = max(event.time_us for event in theirs)
            if self._linked(holder, session, newest):
                session_holder = self._holder(session, self._settings.session_ttl_s)
                entries = [event_entry(event, owner) for event in theirs]
                self._put(session_holder, "events", entries, self._bounds.session_events)

    def _linked(self, holder: int, session: str, newest_us: int) -> bool:
        """Note a session of a person, unless there are too many or it is over."""
        bound = self._bounds.sessions
        self._trim(holder, "sessions", bound)
        others = "SELECT count(*) FROM entry WHERE holder = ? AND name = 'sessions' AND member <> ?"
        (count,) = self._connection.execute(others, (holder, session)).fetchone()
        if count >= bound.keep or newest_us <= bound.after:
            return False
        self._put(holder, "sessions", [(newest_us, session)], bound, newest=True)
        return True

    def _holder(self, name: str, ttl_s: float) -> int:
        row: tuple[int] = self._connection.execute(
            "INSERT INTO holder (tag, expires_us) VALUES (?, ?)"
            " ON CONFLICT (tag) DO UPDATE SET expires_us = max(expires_us, excluded.expires_us) RETURNING id",
            (name, self._now_us + microseconds(ttl_s)),
        ).fetchone()
        return row[0]

    def _applied(self, holder: int, event_id: str) -> bool:
        statement = "SELECT 1 FROM entry WHERE holder = ? AND name = 'ids' AND member = ? AND score > ?"
        return self._connection.execute(statement, (holder, event_id, self._bounds.ids.after)).fetchone() is not None

    def _put(self, holder: int, name: SetName, entries: Iterable[Entry], bound: Bound, *, newest: bool = False) -> None:
        """Add entries to a set, with the latest word on the score, or the largest, and trim it."""
        self._connection.executemany(
            "INSERT INTO entry (holder, name, score, member) VALUES (?, ?, ?, ?) ON CONFLICT (holder, name, member)"
            f" DO UPDATE SET score = {'max(score, excluded.score)' if newest else 'excluded.score'}",
            [(holder, name, score, member) for score, member in entries],
        )
        self._trim(holder, name, bound)

    def _trim(self, holder: int, name: SetName, bound: Bound) -> None:
        self._connection.execute(
            "DELETE FROM entry WHERE holder = ? AND name = ? AND score <= ?", (holder, name, bound.after)
        )
        self._connection.execute(
            "DELETE FROM entry WHERE holder = :holder AND name = :name AND member IN (SELECT member FROM entry"
            " WHERE holder = :holder AND name = :name ORDER BY score DESC, member DESC LIMIT -1 OFFSET :keep)",
            {"holder": holder, "name": name, "keep": bound.keep},
        )
