"""Profiles, sessions and seen memory in SQLite: the sorted sets of `entries` as rows."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from retrank.serving.stores.entries import (
    MAX_MARKS,
    Bounds,
    Entry,
    SetName,
    by_person,
    exported,
    newest,
    owned,
    read_profile,
    tag,
)
from retrank.serving.stores.protocol import Erased, PersonEvent, Profile
from retrank.serving.stores.settings import StateSettings
from retrank.serving.stores.sqlite_apply import Writer
from retrank.serving.stores.sqlite_database import Database
from retrank.serving.stores.sqlite_schema import EVENTS, IDS, SEEN, SESSIONS

_PEOPLE_AT_ONCE = 100
_NAMES: Mapping[SetName, int] = {"ids": IDS, "events": EVENTS, "seen": SEEN, "sessions": SESSIONS}
_APPLIED = f"SELECT 1 FROM entry WHERE holder = ? AND name = {IDS} AND member = ? AND score > ?"
_SET = "SELECT score, member FROM entry WHERE holder = ? AND name = ?"
_PROFILE = f"""
SELECT 'events', score, member FROM entry WHERE holder = :person AND name = {EVENTS} AND score > :events_after
UNION ALL SELECT 'seen', score, member FROM entry WHERE holder = :person AND name = {SEEN} AND score > :seen_after
UNION ALL SELECT 'session', score, member FROM entry
 WHERE holder = :session AND name = {EVENTS} AND score > :session_after
"""


class SqliteProfiles:
    """The `Profiles` part of the store."""

    def __init__(self, database: Database, settings: StateSettings) -> None:
        """Keep profiles in a database."""
        self._database, self._settings = database, settings

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Apply events, the people of a batch in a few transactions so that other writers get their turn."""
        fresh = [False] * len(events)
        batches = by_person(tenant, events)
        for start in range(0, len(batches), _PEOPLE_AT_ONCE):
            with self._database.write() as connection:
                people = batches[start : start + _PEOPLE_AT_ONCE]
                for place in Writer(connection, self._settings, now).apply(tenant, people):
                    fresh[place] = True
        return fresh

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Tell which events were applied before."""
        after = Bounds.at(self._settings, now).ids.after
        tags = {person: _holder(tag("person", tenant, person)) for person, _ in events}
        wanted = [(tags[person], event.event_id, after) for person, event in events]
        return [row is not None for row in self._database.read_each(_APPLIED, wanted)]

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        """Return what is known of a person and of the session at hand."""
        bounds = Bounds.at(self._settings, now)
        person_tag = tag("person", tenant, person)
        rows = self._database.read(
            _PROFILE,
            {
                "person": _holder(person_tag),
                "session": None if session_id is None else _holder(tag("session", tenant, session_id)),
                "events_after": bounds.events.after,
                "seen_after": bounds.seen.after,
                "session_after": bounds.session_events.after,
            },
        )
        sets: dict[str, list[Entry]] = {"events": [], "seen": [], "session": []}
        for name, score, member in rows:
            sets[name].append((score, member))
        with self._database.understood():
            return read_profile(
                person_tag,
                newest(sets["events"], bounds.events),
                newest(sets["seen"], bounds.seen),
                newest(sets["session"], bounds.session_events),
            )

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person."""
        person_tag = tag("person", tenant, person)
        names: tuple[SetName, ...] = ("events", "seen", "ids")
        with self._database.understood():
            for name in names:
                yield from exported(name, self._ordered(person_tag, name))
            for _, session in sorted(self._ordered(person_tag, "sessions"), key=lambda entry: entry[1]):
                yield from exported("sessions", owned(self._ordered(session, "events"), person_tag))

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, in their sessions too, and leave word of it."""
        person_tag = tag("person", tenant, person)
        holder = _holder(person_tag)
        with self._database.write(durable=True) as connection:
            sessions = [session for _, session in connection.execute(_SET, (holder, SESSIONS)).fetchall()]
            erased = 0
            for session in sessions:
                entries = connection.execute(_SET, (_holder(session), EVENTS)).fetchall()
                with self._database.understood():
                    theirs = owned(entries, person_tag)
                connection.executemany(
                    f"DELETE FROM entry WHERE holder = ? AND name = {EVENTS} AND member = ?",
                    [(_holder(session), member) for _, member in theirs],
                )
                erased += len(theirs)
            own = f"DELETE FROM entry WHERE holder = ? AND name > {SESSIONS}"
            erased += connection.execute(own, (holder,)).rowcount
            connection.execute("DELETE FROM entry WHERE holder = ?", (holder,))
            connection.executemany("INSERT INTO erased (tag) VALUES (?)", [(one,) for one in (person_tag, *sessions)])
            connection.execute("DELETE FROM erased WHERE n <= (SELECT max(n) FROM erased) - ?", (MAX_MARKS,))
        return erased

    def erased_since(self, version: int) -> Erased:
        """Return whom to forget since a version."""
        rows = self._database.read(
            "SELECT n, tag FROM erased WHERE n > ? OR n = (SELECT max(n) FROM erased) ORDER BY n", (version,)
        )
        newest_n = rows[-1][0] if rows else 0
        later = [name for n, name in rows if n > version]
        return Erased(newest_n, tuple(later) if newest_n - version == len(later) else None)

    def _ordered(self, name: str, part: SetName) -> list[Entry]:
        rows = self._database.read(f"{_SET} ORDER BY score, member", (_holder(name), _NAMES[part]))
        return [(score, member) for score, member in rows]


def _holder(name: str) -> bytes:
    """Return how a tag stands in the file."""
    return bytes.fromhex(name)
