"""Profiles behind a breaker: the store, else what was last known here, else nobody in particular.

Wraps any `Profiles`. While the breaker is open no call reaches the store: writes raise `StoreUnavailable` at once, and
reading a profile climbs down the ladder instead of failing: `last_known`, then `anonymous`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import TypeVar

from pydantic import JsonValue

from retrank.contract.errors import RetrankError
from retrank.serving.guard.breaker import Breaker
from retrank.serving.stores.protocol import PersonEvent, Profile, Profiles, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry

DEPENDENCY = "profile_store"
MAX_KNOWN = 10_000
"""Profiles kept for the time the store is away; the one unused for the longest goes first."""
ANONYMOUS = Profile((), {})
_Result = TypeVar("_Result")
_Key = tuple[str, str, str | None]


class GuardedProfiles:
    """A store of profiles that fails quickly, and whose profiles can still be read when it does."""

    def __init__(
        self,
        store: Profiles,
        breaker: Breaker,
        clock: Callable[[], float],
        telemetry: Telemetry,
        *,
        max_known: int = MAX_KNOWN,
        quick: Profiles | None = None,
    ) -> None:
        """Wrap a store.

        Args:
            store: what is guarded.
            breaker: of this store alone.
            clock: monotonic seconds.
            telemetry: told when a fallback answers.
            max_known: profiles kept here.
            quick: the same store for reading profiles, which gives up sooner; None reads `store`.
        """
        self._store = store
        self._quick = quick or store
        self._breaker = breaker
        self._clock = clock
        self._telemetry = telemetry
        self._max_known = max_known
        self._known: OrderedDict[_Key, Profile] = OrderedDict()
        self._lock = Lock()

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Apply events; what was last known here stays, a little out of date being better than nothing."""
        return self._guarded(lambda: self._store.apply(tenant, events, now))

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Tell which events were applied before."""
        return self._guarded(lambda: self._store.known(tenant, events, now))

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        """Return what is known of a person; raises nothing.

        See `read` to be told which rung of the ladder answered.
        """
        return self.read(tenant, person, session_id, now)[0]

    def read(self, tenant: str, person: str, session_id: str | None, now: float) -> tuple[Profile, str | None]:
        """Return what is known of a person, and the rung that answered: None, `last_known` or `anonymous`."""
        key = (tenant, person, session_id)
        try:
            profile = self._guarded(lambda: self._quick.profile(tenant, person, session_id, now))
        except StoreUnavailable:
            last = self._known.get(key)
            rung = "anonymous" if last is None else "last_known"
            self._telemetry.fallback(DEPENDENCY, rung)
            return (ANONYMOUS if last is None else last), rung
        self._remember(key, profile)
        return profile, None

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person; only the store itself can say."""
        yield from self._guarded(lambda: list(self._store.export(tenant, person)))

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, here first: nothing may answer from here if the store fails half way."""
        self._forget(tenant, person)
        erased = self._guarded(lambda: self._store.erase(tenant, person))
        self._forget(tenant, person)
        return erased

    def _guarded(self, call: Callable[[], _Result]) -> _Result:
        if not self._breaker.allows():
            raise StoreUnavailable(f"the {DEPENDENCY} failed too often and is left alone; its breaker tries it again")
        started = self._clock()
        try:
            result = call()
        except Exception as error:
            refused = isinstance(error, RetrankError) and not isinstance(error, StoreUnavailable)  # it did answer
            self._breaker.ended(failed=not refused, seconds=self._clock() - started)
            raise
        self._breaker.ended(failed=False, seconds=self._clock() - started)
        return result

    def _remember(self, key: _Key, profile: Profile) -> None:
        with self._lock:
            self._known[key] = profile
            self._known.move_to_end(key)
            if len(self._known) > self._max_known:
                self._known.popitem(last=False)

    def _forget(self, tenant: str, person: str) -> None:
        with self._lock:
            for key in [key for key in self._known if key[:2] == (tenant, person)]:
                del self._known[key]
