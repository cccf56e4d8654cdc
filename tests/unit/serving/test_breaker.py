"""Breakers: when they open, how they close, and that an open one lets nothing through."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from retrank.contract.errors import RequestError
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.profiles import ANONYMOUS, KNOWN_FOR_S, GuardedProfiles
from retrank.serving.guard.pulse import Pulse
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.stores.entries import tag
from retrank.serving.stores.protocol import Erased, LiveEvent, PersonEvent, Profile, StoreUnavailable
from retrank.serving.telemetry.facade import CircuitState, Telemetry

QUICK, SLOW = 0.001, 1.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _calls(breaker: Breaker, ends: Sequence[bool], seconds: float = QUICK) -> None:
    for failed in ends:
        assert breaker.allows()
        breaker.ended(failed=failed, seconds=seconds)


def _opened(clock: Clock, seen: list[CircuitState] | None = None) -> Breaker:
    breaker = Breaker(BreakerSettings(), clock, on_change=(seen if seen is not None else []).append)
    _calls(breaker, [True] * 20)
    return breaker


def test_it_opens_when_half_of_the_last_twenty_calls_failed(clock: Clock) -> None:
    breaker = Breaker(BreakerSettings(), clock)
    _calls(breaker, [True, False] * 9 + [False, False])
    before = str(breaker.state)
    _calls(breaker, [True] * 2)
    assert (before, breaker.state) == ("closed", "open")


@pytest.mark.parametrize(
    ("failed", "seconds", "still_s", "state"),
    [
        (True, 0.060, 0.0, "open"),  # the store hangs, this process runs
        (True, 0.060, 0.020, "open"),  # a busy process, but most of the time was the store's
        (True, 0.060, 0.050, "closed"),  # a timeout that was mostly spent waiting for a core
        (False, 0.060, 0.0, "open"),  # a slow store
        (False, 0.060, 0.020, "closed"),  # 40 ms of its own are within the budget
        (False, 2.000, 1.999, "closed"),
        (True, 0.001, 0.0, "open"),  # refused connections are quick, whatever else goes on
    ],
)
def test_time_during_which_this_process_stood_still_is_not_the_stores(
    clock: Clock, *, failed: bool, seconds: float, still_s: float, state: CircuitState
) -> None:
    breaker = Breaker(BreakerSettings(), clock)
    for _ in range(40):
        breaker.ended(failed=failed, seconds=seconds, still_s=still_s)
    assert breaker.state == state


def test_a_store_that_fails_while_this_process_hardly_runs_is_found_out_all_the_same(clock: Clock) -> None:
    breaker = Breaker(BreakerSettings(), clock)
    for _ in range(20):
        breaker.ended(failed=True, seconds=0.3, still_s=0.29)
        breaker.ended(failed=True, seconds=0.002)
    assert breaker.state == "open"


@pytest.mark.parametrize(
    ("failed", "seconds", "still_s", "state"),
    [
        (True, 0.3, 0.29, "half_open"),  # given up after a wait that was this process's own
        (False, 0.3, 0.16, "half_open"),  # slow, even without that, and mostly its own: no proof either way
        (False, 0.3, 0.29, "closed"),  # it did answer
        (True, 0.3, 0.10, "open"),  # the store's, for the most part
        (False, 0.3, 0.10, "open"),
        (True, 0.001, 0.0, "open"),
    ],
)
def test_a_trial_during_which_this_process_stood_still_proves_nothing_and_the_next_call_tries(
    clock: Clock, *, failed: bool, seconds: float, still_s: float, state: CircuitState
) -> None:
    breaker = _opened(clock)
    clock.now += 1.0
    assert breaker.allows()
    breaker.ended(failed=failed, seconds=seconds, still_s=still_s)
    assert breaker.state == state
    if state == "half_open":
        assert [breaker.allows(), breaker.allows()] == [True, False]
        breaker.ended(failed=False, seconds=QUICK)
        assert breaker.state == "closed"


class Starved:
    """A store whose every call takes 5 ms, of a process that gets a core for a tenth of the time."""

    def __init__(self, clock: Clock, pulse: Pulse) -> None:
        self._clock, self._pulse = clock, pulse

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        del tenant, person, session_id, now
        self._clock.now += 0.055
        self._pulse.beat()
        raise StoreUnavailable("no answer within 0.04 s")


def test_a_starved_process_does_not_take_its_store_for_broken(clock: Clock) -> None:
    for watched, state in ((True, "closed"), (False, "open")):
        pulse, breaker = Pulse(clock, every_s=0.005), Breaker(BreakerSettings(), clock)
        still = {"stood_still_s": pulse.stood_still_s} if watched else {}
        profiles = GuardedProfiles(Starved(clock, pulse), breaker, clock, Telemetry(), **still)  # type: ignore[arg-type]
        for _ in range(30):
            profiles.read("shop", "u:1", None, 0.0)
        assert breaker.state == state


def test_a_pulse_counts_what_it_beats_late_and_what_is_overdue(clock: Clock) -> None:
    pulse = Pulse(clock, every_s=0.01)
    clock.now += 0.01
    pulse.beat()
    assert pulse.stood_still_s() == pytest.approx(0.0)
    clock.now += 0.51
    assert pulse.stood_still_s() == pytest.approx(0.5)
    pulse.beat()
    assert pulse.stood_still_s() == pytest.approx(0.5)
    clock.now += 0.005  # early: another thread beat as well
    pulse.beat()
    assert pulse.stood_still_s() == pytest.approx(0.5)


def test_the_thread_of_a_pulse_beats_and_ends_with_it() -> None:
    before = set(threading.enumerate())
    pulse = Pulse(time.monotonic, every_s=0.001).start()
    (thread,) = set(threading.enumerate()) - before
    first = pulse._state[1]
    give_up_at = time.monotonic() + 30
    while pulse._state[1] == first:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)
    del pulse
    thread.join(30)
    assert not thread.is_alive()


def test_a_few_calls_prove_nothing(clock: Clock) -> None:
    breaker = Breaker(BreakerSettings(), clock)
    _calls(breaker, [True] * 19)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("slow", "state"), [(1, "closed"), (2, "open")])
def test_it_opens_when_the_95th_percentile_is_over_budget(clock: Clock, slow: int, state: CircuitState) -> None:
    breaker = Breaker(BreakerSettings(), clock)
    _calls(breaker, [False] * slow, SLOW)
    _calls(breaker, [False] * (20 - slow))
    assert breaker.state == state


@given(calls=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.001, 0.04, 0.2])), max_size=60))
def test_it_opens_with_the_call_after_which_the_window_is_bad_and_no_other(calls: list[tuple[bool, float]]) -> None:
    """Judged here after every call, with all that the window holds."""
    settings = BreakerSettings(window=10)
    breaker, held = Breaker(settings, Clock()), list[tuple[bool, float]]()
    for failed, seconds in calls:
        breaker.ended(failed=failed, seconds=seconds)
        held = [*held, (failed, seconds)][-settings.window :]
        failures, slowest = sum(one for one, _ in held), sorted(one for _, one in held)[-1]
        wasted = sum(one for broken, one in held if broken)
        full = len(held) == settings.window
        bad = full and (failures >= settings.max_error_share * len(held) or slowest > settings.max_p95_s)
        bad |= failed and wasted > settings.max_wasted_s
        assert breaker.state == ("open" if bad else "closed")
        if bad:
            return


def test_after_a_second_one_call_tries_and_success_closes_it(clock: Clock) -> None:
    seen: list[CircuitState] = []
    breaker = _opened(clock, seen)
    clock.now += 0.99
    assert not breaker.allows()
    clock.now += 0.01
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.ended(failed=False, seconds=QUICK)
    assert breaker.allows()
    assert seen == ["closed", "open", "half_open", "closed"]


@pytest.mark.parametrize(("failed", "seconds"), [(True, QUICK), (False, SLOW)])
def test_a_try_that_fails_or_is_slow_opens_it_for_another_second(clock: Clock, failed: bool, seconds: float) -> None:
    breaker = _opened(clock)
    clock.now += 1.0
    assert breaker.allows()
    breaker.ended(failed=failed, seconds=seconds)
    assert (breaker.state, breaker.allows()) == ("open", False)


def test_a_try_that_never_ends_does_not_block_the_next(clock: Clock) -> None:
    breaker = _opened(clock)
    clock.now += 1.0
    assert breaker.allows()
    clock.now += 1.0
    assert breaker.allows()


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from([QUICK, SLOW]), st.integers(0, 15)), max_size=120)


@given(steps=STEPS)
def test_while_open_at_most_one_call_a_second_gets_through(steps: list[tuple[bool, float, int]]) -> None:
    clock, tries = Clock(), list[float]()
    breaker = Breaker(BreakerSettings(window=4), clock)
    for failed, seconds, tenths in steps:
        clock.now += tenths / 10
        was_open = breaker.state != "closed"
        if breaker.allows():
            if was_open:
                assert not tries or clock.now - tries[-1] >= 1.0 - 1e-9
                tries.append(clock.now)
            breaker.ended(failed=failed, seconds=seconds)
            if was_open:
                assert (breaker.state == "closed") == (not failed and seconds == QUICK)
        else:
            assert was_open


class FlakyStore:
    """Profiles in a dict, behind a line that can be cut."""

    def __init__(self) -> None:
        self.down = False
        self.calls = 0
        self.erased: list[str] = []
        self.word_is_kept = True
        self.people: dict[tuple[str, str], tuple[LiveEvent, ...]] = {}

    def _reach(self) -> None:
        self.calls += 1
        if self.down:
            raise StoreUnavailable("the line is cut")

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        self._reach()
        for person, event in events:
            self.people[tenant, person] = (*self.people.get((tenant, person), ()), event)
        return [True] * len(events)

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        self._reach()
        return [event in self.people.get((tenant, person), ()) for person, event in events]

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        self._reach()
        return Profile(self.people.get((tenant, person), ()), {})

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        self._reach()
        yield {"person": person}

    def erase(self, tenant: str, person: str) -> int:
        self._reach()
        self.erased.append(tag("person", tenant, person))
        return len(self.people.pop((tenant, person), ()))

    def erased_since(self, version: int) -> Erased:
        self._reach()
        known = version <= len(self.erased) and self.word_is_kept
        return Erased(len(self.erased), tuple(self.erased[version:]) if known else None)


class Rungs(Telemetry):
    """Remembers which fallbacks answered."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def fallback(self, dependency: str, rung: str) -> None:
        self.seen.append(f"{dependency} {rung}")


CLICK = LiveEvent("e1", "click", "i1", 1_000_000)


def _guarded(store: FlakyStore, clock: Clock, rungs: Rungs, max_known: int = 100) -> GuardedProfiles:
    breaker = Breaker(BreakerSettings(window=4), clock)
    return GuardedProfiles(store, breaker, clock, rungs, max_known=max_known)


class Sizes(Rungs):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int, int]] = []

    def store(self, name: str, entries: int, evicted: int = 0) -> None:
        self.told.append((name, entries, evicted))


def test_how_many_profiles_are_kept_and_how_many_made_room_is_told_with_every_look(clock: Clock) -> None:
    sizes = Sizes()
    profiles = _guarded(FlakyStore(), clock, sizes, max_known=2)
    for person in ("u1", "u2", "u3", "u1"):
        profiles.read("shop", person, None, 1.0)
    profiles.forget_erased()
    profiles.forget_erased()
    clock.now += KNOWN_FOR_S + 1.0
    profiles.read("shop", "u4", None, 1.0)
    profiles.forget_erased()
    assert sizes.told == [("profiles", 2, 2), ("profiles", 2, 0), ("profiles", 1, 0)]  # too old is not evicted


def test_a_profile_comes_from_the_store_then_from_memory_then_from_nobody(clock: Clock) -> None:
    store, rungs = FlakyStore(), Rungs()
    profiles = _guarded(store, clock, rungs)
    profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0)
    assert profiles.read("shop", "u1", None, 1.0) == (Profile((CLICK,), {}), None)
    store.down = True
    assert profiles.read("shop", "u1", None, 1.0) == (Profile((CLICK,), {}), "last_known")
    assert profiles.read("shop", "u2", None, 1.0) == (ANONYMOUS, "anonymous")
    assert profiles.read("other shop", "u1", None, 1.0) == (ANONYMOUS, "anonymous")
    assert rungs.seen == ["profile_store last_known", "profile_store anonymous", "profile_store anonymous"]


def test_a_store_that_is_down_is_left_alone_and_found_again(clock: Clock) -> None:
    store = FlakyStore()
    profiles = _guarded(store, clock, Rungs())
    store.down = True
    for _ in range(50):
        profiles.profile("shop", "u1", None, 1.0)
    assert store.calls == 4
    with pytest.raises(StoreUnavailable, match="left alone"):
        profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0)
    store.down = False
    clock.now += 1.0
    assert profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0) == [True]
    assert list(profiles.export("shop", "u1")) == [{"person": "u1"}]
    assert profiles.known("shop", [PersonEvent("u1", CLICK)], now=1.0) == [True]


class FullStore(FlakyStore):
    """Answers, and says no."""

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        self.calls += 1
        raise RequestError("too much of it")


def test_a_store_that_answers_with_a_refusal_is_not_left_alone(clock: Clock) -> None:
    store = FullStore()
    profiles = _guarded(store, clock, Rungs())
    for _ in range(20):
        with pytest.raises(RequestError):
            profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0)
    assert store.calls == 20


@pytest.mark.parametrize("down", [False, True])
def test_an_erased_person_is_not_remembered_here_even_if_the_store_fails(clock: Clock, down: bool) -> None:
    store = FlakyStore()
    profiles = _guarded(store, clock, Rungs())
    profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0)
    profiles.profile("shop", "u1", "s1", 1.0)
    store.down = down
    if down:
        with pytest.raises(StoreUnavailable):
            profiles.erase("shop", "u1")
    else:
        assert profiles.erase("shop", "u1") == 1
    store.down = True
    assert profiles.read("shop", "u1", "s1", 1.0) == (ANONYMOUS, "anonymous")


def test_the_memory_of_profiles_is_bounded(clock: Clock) -> None:
    store = FlakyStore()
    profiles = _guarded(store, clock, Rungs(), max_known=2)
    for person in ("u1", "u2", "u3"):
        profiles.apply("shop", [PersonEvent(person, CLICK)], now=1.0)
        profiles.profile("shop", person, None, 1.0)
    store.down = True
    rungs = [profiles.read("shop", person, None, 1.0)[1] for person in ("u1", "u2", "u3")]
    assert rungs == ["anonymous", "last_known", "last_known"]


def test_a_remembered_profile_ages_as_another_replica_may_have_erased_it(clock: Clock) -> None:
    store = FlakyStore()
    here, there = _guarded(store, clock, Rungs()), _guarded(store, clock, Rungs())
    here.apply("shop", [PersonEvent("u1", CLICK), PersonEvent("u2", CLICK)], now=1.0)
    here.profile("shop", "u1", None, 1.0)
    assert there.erase("shop", "u1") == 1
    clock.now += KNOWN_FOR_S / 2
    here.profile("shop", "u2", None, 1.0)
    store.down = True
    assert here.read("shop", "u1", None, 1.0)[1] == "last_known"
    clock.now += KNOWN_FOR_S / 2 + 1.0
    assert here.read("shop", "u1", None, 1.0) == (ANONYMOUS, "anonymous")
    assert here.read("shop", "u2", None, 1.0)[1] == "last_known"


def _remembering(store: FlakyStore, clock: Clock, *people: str, session: str | None = None) -> GuardedProfiles:
    profiles = _guarded(store, clock, Rungs())
    for person in people:
        store.people["shop", person] = (CLICK,)
        profiles.profile("shop", person, session, 1.0)
    return profiles


def _remembered(profiles: GuardedProfiles, *people: str, session: str | None = None) -> list[str]:
    return [person for person in people if profiles.read("shop", person, session, 1.0)[1] == "last_known"]


def test_whom_another_replica_erased_is_forgotten_here_with_the_next_look(clock: Clock) -> None:
    store = FlakyStore()
    here, there = _remembering(store, clock, "u1", "u2"), _guarded(store, clock, Rungs())
    there.erase("shop", "u1")
    there.erase("other shop", "u2")
    here.forget_erased()
    store.down = True
    assert _remembered(here, "u1", "u2") == ["u2"]


def test_everybody_in_a_session_of_somebody_erased_is_forgotten(clock: Clock) -> None:
    store = FlakyStore()
    here = _remembering(store, clock, "u2", session="s1")
    store.erased += [tag("person", "shop", "u1"), tag("session", "shop", "s1")]
    here.forget_erased()
    store.down = True
    assert _remembered(here, "u2", session="s1") == []


def test_whoever_missed_word_of_an_erasure_forgets_everybody(clock: Clock) -> None:
    store = FlakyStore()
    here = _remembering(store, clock, "u1", "u2")
    store.erased.append(tag("person", "shop", "u9"))
    store.word_is_kept = False
    here.forget_erased()
    store.down = True
    assert _remembered(here, "u1", "u2") == []


def test_a_profile_that_was_read_just_before_word_of_its_erasure_came_is_not_remembered(clock: Clock) -> None:
    class Overtaken(FlakyStore):
        def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
            found = super().profile(tenant, person, session_id, now)
            self.erase(tenant, person)
            here.forget_erased()
            return found

    store = Overtaken()
    here = _guarded(store, clock, Rungs())
    store.people["shop", "u1"] = (CLICK,)
    assert here.profile("shop", "u1", None, 1.0).events == (CLICK,)
    store.down = True
    assert _remembered(here, "u1") == []


def test_looking_for_erasures_leaves_a_store_that_is_away_alone(clock: Clock) -> None:
    store = FlakyStore()
    here = _remembering(store, clock, "u1")
    store.down = True
    for _ in range(20):
        here.forget_erased()
    assert store.calls < 10
    assert _remembered(here, "u1") == ["u1"]


class HangingStore(FlakyStore):
    """Does not answer before its caller gives up, while it is down."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def _reach(self) -> None:
        self._clock.now += 0.04 if self.down else QUICK
        super()._reach()


def test_a_store_that_hangs_costs_readers_a_tenth_of_a_second_and_then_nothing(clock: Clock) -> None:
    store, aside = HangingStore(clock), list[Callable[[], None]]()
    profiles = GuardedProfiles(store, Breaker(BreakerSettings(), clock), clock, Rungs(), aside=aside.append)
    profiles.apply("shop", [PersonEvent("u1", CLICK)], now=1.0)
    store.down, before = True, clock.now
    for _ in range(1_000):
        assert profiles.read("shop", "u1", None, 1.0)[1] == "anonymous"
    assert store.calls - 1 == 3
    assert clock.now - before == pytest.approx(0.12)
    clock.now += 1.0
    before = clock.now
    assert [profiles.read("shop", "u1", None, 1.0)[1] for _ in range(10)] == ["anonymous"] * 10
    assert (len(aside), clock.now) == (1, before)  # somebody else tries, and readers do not wait for that
    clock.now += 5.0
    profiles.read("shop", "u1", None, 1.0)
    assert len(aside) == 1  # a try that hangs is not joined by another
    aside.pop()()
    store.down = False
    clock.now += 1.0
    assert profiles.read("shop", "u1", None, 1.0)[1] == "anonymous"
    aside.pop()()
    assert profiles.read("shop", "u1", None, 1.0) == (Profile((CLICK,), {}), None)
