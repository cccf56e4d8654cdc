"""Whatever is asked of a store, in whatever order, it answers as the reference does."""

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st
from pydantic import SecretStr
from reference_store import ReferenceStore
from state_backends import Backend

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import ItemChange, LiveEvent, PersonEvent, StateStore
from retrank.serving.stores.settings import StateSettings

DAY = 86_400.0
LIMITS: dict[str, float] = {
    "timeout_s": 10.0,
    "max_events_per_person": 4,
    "max_events_per_session": 3,
    "max_seen_per_person": 3,
    "events_ttl_s": 5 * DAY,
    "session_ttl_s": DAY,
    "seen_ttl_s": 3 * DAY,
}
TENANTS = st.sampled_from(["one", "two"])
PEOPLE = st.sampled_from(["u:1", "u:2", "s:a"])
SESSIONS = st.sampled_from(["a", "b", None])
NAMES = st.sampled_from(["x", "y", "z"])
ATTRIBUTES = st.none() | st.dictionaries(NAMES, st.integers() | st.text(max_size=3), max_size=2)


class StoreComparison(stateful.RuleBasedStateMachine):
    """Do the same to a store and to the reference; an id always names the same event, as a caller would have it."""

    url: ClassVar[str]
    fresh: ClassVar[Iterator[int]] = count()

    def __init__(self) -> None:
        super().__init__()
        number = next(self.fresh)
        url = f"{self.url}{number}" if self.url.startswith("sqlite") else self.url
        chosen = StateSettings.model_validate({"url": SecretStr(url), "key_prefix": f"t{number}", **LIMITS})
        self.limits = chosen
        self.store: StateStore = open_store(chosen)
        self.reference = ReferenceStore(chosen)
        self.events: dict[tuple[str, str, int], LiveEvent] = {}
        self.now = 1_800_000_000.0

    def teardown(self) -> None:
        for tenant in ("one", "two"):
            for person in ("u:1", "u:2", "s:a"):
                self.profiles_agree(tenant, person, "a")
                self.exports_agree(tenant, person)
        self.store.close()

    @stateful.rule(
        tenant=TENANTS,
        batch=st.lists(st.tuples(PEOPLE, st.integers(0, 9)), max_size=6),
        session=SESSIONS,
        hours_ago=st.integers(0, 40),
    )
    def apply(self, tenant: str, batch: list[tuple[str, int]], session: str | None, hours_ago: int) -> None:
        events = [self._event(tenant, person, number, session, hours_ago) for person, number in batch]
        assert self.store.known(tenant, events, self.now) == self.reference.known(tenant, events, self.now)
        assert self.store.apply(tenant, events, self.now) == self.reference.apply(tenant, events, self.now)

    def _event(self, tenant: str, person: str, number: int, session: str | None, hours_ago: int) -> PersonEvent:
        """Make an event, or return the one of that id; no two times are equal."""
        time_us = round((self.now - 3_600 * hours_ago) * 1e6) + len(self.events)
        made = LiveEvent(f"e{number}", ("click", "impression")[number % 2], f"i{number % 5}", time_us, session)
        return PersonEvent(person, self.events.setdefault((tenant, person, number), made))

    @stateful.rule(seconds=st.sampled_from([1.0, 3_600.0, DAY, 2 * DAY, 7 * DAY]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @stateful.rule(tenant=TENANTS, person=PEOPLE, session=SESSIONS)
    def profiles_agree(self, tenant: str, person: str, session: str | None) -> None:
        expected = self.reference.profile(tenant, person, session, self.now)
        assert self.store.profile(tenant, person, session, self.now) == expected

    @stateful.rule(tenant=TENANTS, person=PEOPLE)
    def exports_agree(self, tenant: str, person: str) -> None:
        """They agree on what has not expired; when the rest goes is up to the store."""
        assert self._exported(self.store, tenant, person) == self._exported(self.reference, tenant, person)

    def _exported(self, store: StateStore, tenant: str, person: str) -> list[str]:
        return sorted(repr(sorted(row.items())) for row in store.export(tenant, person) if self._alive(row))

    def _alive(self, row: Mapping[str, Any]) -> bool:
        limits = self.limits
        ttl_s = {"event": limits.events_ttl_s, "seen": limits.seen_ttl_s, "session_event": limits.session_ttl_s}
        at_us = row["applied_at_us"] if row["what"] == "event_id" else row["time_us"]
        return bool(at_us > (self.now - ttl_s.get(row["what"], 7 * DAY)) * 1e6)

    @stateful.rule(tenant=TENANTS, person=PEOPLE)
    def erase(self, tenant: str, person: str) -> None:
        kept = len(list(self.store.export(tenant, person)))
        assert self.store.erase(tenant, person) == kept
        self.reference.erase(tenant, person)
        assert list(self.store.export(tenant, person)) == []

    @stateful.rule(
        tenant=TENANTS,
        changes=st.lists(
            st.builds(ItemChange, NAMES, st.just(0), st.booleans(), st.booleans(), ATTRIBUTES), max_size=3
        ),
        after=st.integers(0, 5),
    )
    def change_items(self, tenant: str, changes: list[ItemChange], after: int) -> None:
        assert self.store.change_items(tenant, changes) == self.reference.change_items(tenant, changes)
        assert self.store.item_changes(tenant, after) == self.reference.item_changes(tenant, after)

    @stateful.rule(tenant=TENANTS, up_to=st.integers(0, 5))
    def forget_changes(self, tenant: str, up_to: int) -> None:
        assert self.store.forget_changes(tenant, up_to) == self.reference.forget_changes(tenant, up_to)

    @stateful.rule(name=NAMES, value=ATTRIBUTES, expected=st.integers(0, 2))
    def write(self, name: str, value: dict[str, Any] | None, expected: int) -> None:
        assert self.store.write(name, value, expected) == self.reference.write(name, value, expected)
        assert self.store.document(name) == self.reference.document(name)

    @stateful.rule(replica=NAMES, status=ATTRIBUTES, ttl_s=st.sampled_from([0.5, 3_600.0, DAY]))
    def beat(self, replica: str, status: dict[str, Any] | None, ttl_s: float) -> None:
        self.store.beat(replica, status, ttl_s, self.now)
        self.reference.beat(replica, status, ttl_s, self.now)

    @stateful.rule()
    def beats_agree(self) -> None:
        assert self.store.beats(self.now) == self.reference.beats(self.now)


def _compare(url: str, max_examples: int) -> None:
    machine = type("Comparison", (StoreComparison,), {"url": url})
    chosen = settings(max_examples=max_examples, stateful_step_count=30, suppress_health_check=list(HealthCheck))
    stateful.run_state_machine_as_test(machine, settings=chosen)


def test_a_store_answers_as_the_reference_does(backend: Backend, tmp_path: Path) -> None:
    _compare(backend.url, max_examples=12)


@pytest.mark.slow
def test_a_store_answers_as_the_reference_does_for_much_longer(backend: Backend, tmp_path: Path) -> None:
    _compare(backend.url, max_examples=300)
