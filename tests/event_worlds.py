"""Small worlds around the event log: profiles in a dictionary, events by the number, what a folder holds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from retrank.contract.events import EventBatch
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.records import EventRecord, decode_event
from retrank.serving.events.segment import SegmentReader
from retrank.serving.stores.protocol import Erased, LiveEvent, PersonEvent, Profile, StoreUnavailable

NOON = 1_770_000_000.0
DAY_S = 86_400


class DictProfiles:
    """The readable reference of `Profiles`: everything for ever; `away` makes it unavailable."""

    def __init__(self) -> None:
        self.away = False
        self.effects: dict[tuple[str, str], list[LiveEvent]] = {}
        self.calls = 0

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        self._answer()
        fresh = []
        for person, event in events:
            there = self.effects.setdefault((tenant, person), [])
            fresh.append(event.event_id not in {other.event_id for other in there})
            if fresh[-1]:
                there.append(event)
        return fresh

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        self._answer()
        return [e.event_id in {o.event_id for o in self.effects.get((tenant, person), [])} for person, e in events]

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        self._answer()
        return Profile(tuple(self.effects.get((tenant, person), [])), {})

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        self._answer()
        yield from ()

    def erase(self, tenant: str, person: str) -> int:
        self._answer()
        return len(self.effects.pop((tenant, person), []))

    def erased_since(self, version: int) -> Erased:
        self._answer()
        return Erased(0, ())

    def ids(self) -> list[str]:
        """Return the ids of all effects, sorted; an effect that happened twice appears twice."""
        return sorted(event.event_id for events in self.effects.values() for event in events)

    def _answer(self) -> None:
        self.calls += 1
        if self.away:
            raise StoreUnavailable("out for lunch")


def click(number: int, **changes: Any) -> dict[str, Any]:
    """Return an event as it is posted."""
    return {"event_id": f"e{number}", "type": "click", "item_id": f"i{number % 7}", "user_id": "ann"} | changes


def clicks(*numbers: int, **changes: Any) -> EventBatch:
    """Return a batch of events with these numbers."""
    return EventBatch(events=[click(number, **changes) for number in numbers])


def raw_records(stream: Path) -> list[bytes]:
    """Return everything a stream holds, writer by writer."""
    paths = [path for folder in writers(stream) for path in segments(folder)]
    return [record for path in paths for record in SegmentReader(path)]


def logged(directory: Path) -> list[EventRecord]:
    """Return the records of the stream of events."""
    return [decode_event(raw) for raw in raw_records(directory / "events")]


def logged_ids(directory: Path) -> list[str]:
    """Return the ids of the events in the log, sorted."""
    return sorted(record.event.event_id for record in logged(directory) if record.event)
