"""Profiles behind a breaker: the store, else what was last known here, else nobody in particular.

Wraps any `Profiles`. While the breaker is open no call reaches the store: writes raise `StoreUnavailable` at once, and
reading a profile climbs down the ladder instead of failing: `last_known`, then `anonymous`. Slates are made on the
event loop, so whether a store that failed is back is found out by a thread: a store that hangs holds up nobody.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Lock, Thread
from typing import TypeVar

from pydantic import JsonValue

from retrank.contract.errors import RetrankError
from retrank.serving.guard.breaker import Breaker
from retrank.serving.stores.entries import tag
from retrank.serving.stores.protocol import Erased, PersonEvent, Profile, Profiles, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry

DEPENDENCY = "profile_store"
MAX_KNOWN = 10_000
"""Profiles kept for the time the store is away; the one unused for the longest goes first."""
KNOWN_FOR_S = 900.0
"""How long such a profile may answer: a person who was to be erased meanwhile is heard of when the store is back."""
KEPT = "profiles"
"""Name of the profiles that are kept here, in metrics."""
ANONYMOUS = Profile((), {})
_Result = TypeVar("_Result")
_Key = tuple[str, str, str | None]


def _in_thread(act: Callable[[], None]) -> None:
    Thread(target=act, name="try-profile-store", daemon=True).start()


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
        aside: Callable[[Callable[[], None]], None] = _in_thread,
        stood_still_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Wrap a store.

        Args:
            store: what is guarded.
            breaker: of this store alone.
            clock: monotonic seconds.
            telemetry: told when a fallback answers.
            max_known: profiles kept here.
            quick: the same store for reading profiles, which gives up sooner; None reads `store`.
            aside: runs something without waiting for it.
            stood_still_s: for how many seconds this process has stood still so far; the store is not blamed for them.
        """
        self._store = store
        self._quick = quick or store
        self._aside, self._stood_still_s = aside, stood_still_s
        self._trying = Lock()
        self._breaker = breaker
        self._clock = clock
        self._telemetry = telemetry
        self._max_known = max_known
        self._known: OrderedDict[_Key, tuple[Profile, float]] = OrderedDict()  # and when it was read, oldest first
        self._lock = Lock()
        self._told: list[Callable[[Collection[str] | None], None]] = []
        self._evicted = 0  # since telemetry was told
        self._erased = 0  # version up to which it is known here who was erased

    def tell(self, forget: Callable[[Collection[str] | None], None]) -> None:
        """Have others forget too: called with the tags of whom, None for everybody, and with none at every look."""
        self._told.append(forget)

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
        heard = self._erased
        try:
            if self._breaker.state != "closed":
                self._try_aside(key, now)
                raise StoreUnavailable(f"the {DEPENDENCY} is left alone")
            profile = self._guarded(lambda: self._quick.profile(tenant, person, session_id, now))
        except StoreUnavailable:
            last = self._last_known(key)
            rung = "anonymous" if last is None else "last_known"
            self._telemetry.fallback(DEPENDENCY, rung)
            return (ANONYMOUS if last is None else last), rung
        self._remember(key, profile, heard)
        return profile, None

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person; only the store itself can say."""
        yield from self._guarded(lambda: list(self._store.export(tenant, person)))

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, here first: nothing may answer from here if the store fails half way."""
        self._forget(tenant, person)
        erased = self._guarded(lambda: self._store.erase(tenant, person))
        self._forget(tenant, person)
        self.forget_erased()
        return erased

    def erased_since(self, version: int) -> Erased:
        """Return whom to forget since a version."""
        return self._guarded(lambda: self._store.erased_since(version))

    def forget_erased(self) -> None:
        """Forget whomever any replica was told to erase, and everybody who was in a session with them.

        To be called every second or so; while the store is away, nothing is heard of others. How many profiles are kept
        here is told as often.
        """
        with self._lock:
            kept, evicted, self._evicted = len(self._known), self._evicted, 0
        self._telemetry.store(KEPT, kept, evicted)
        tags = self._hear()
        for forget in self._told:
            forget(tags)

    def _hear(self) -> Collection[str] | None:
        """Forget whomever the store has word of, and return their tags; None is everybody."""
        if self._breaker.state != "closed":
            return ()
        try:
            heard = self.erased_since(self._erased)
        except StoreUnavailable:
            return ()
        with self._lock:
            self._erased = heard.version
            if heard.tags is None:
                self._known.clear()
            elif heard.tags:
                tags = set(heard.tags)
                for key in [key for key in self._known if not tags.isdisjoint(_tags(key))]:
                    del self._known[key]
        return heard.tags

    def _try_aside(self, key: _Key, now: float) -> None:
        """Let one call at a time find out whether the store is back, when the breaker allows it."""
        if not self._trying.acquire(blocking=False):
            return
        if not self._breaker.allows():
            self._trying.release()
            return

        def attempt() -> None:
            try:
                self._measured(lambda: self._quick.profile(*key, now))
            except StoreUnavailable:
                pass  # the breaker knows
            finally:
                self._trying.release()

        try:
            self._aside(attempt)
        except RuntimeError:  # no thread could be started; the breaker allows another try a second later
            self._trying.release()

    def _guarded(self, call: Callable[[], _Result]) -> _Result:
        if not self._breaker.allows():
            raise StoreUnavailable(f"the {DEPENDENCY} failed too often and is left alone; its breaker tries it again")
        return self._measured(call)

    def _measured(self, call: Callable[[], _Result]) -> _Result:
        """Make a call that the breaker allowed, and tell it how that ended."""
        started, still_s = self._clock(), self._stood_still_s()

        def ended(*, failed: bool) -> None:
            self._breaker.ended(failed=failed, seconds=self._clock() - started, still_s=self._stood_still_s() - still_s)

        try:
            result = call()
        except Exception as error:
            refused = isinstance(error, RetrankError) and not isinstance(error, StoreUnavailable)  # it did answer
            ended(failed=not refused)
            raise
        ended(failed=False)
        return result

    def _last_known(self, key: _Key) -> Profile | None:
        profile, read_at = self._known.get(key, (None, 0.0))
        return profile if self._clock() - read_at <= KNOWN_FOR_S else None

    def _remember(self, key: _Key, profile: Profile, heard: int) -> None:
        with self._lock:
            if heard != self._erased:  # perhaps read before it was erased; the next read will do
                return
            now = self._clock()
            self._known[key] = profile, now
            self._known.move_to_end(key)
            while (old := now - next(iter(self._known.values()))[1] > KNOWN_FOR_S) or len(
                self._known
            ) > self._max_known:
                self._evicted += not old
                self._known.popitem(last=False)

    def _forget(self, tenant: str, person: str) -> None:
        with self._lock:
            for key in [key for key in self._known if key[:2] == (tenant, person)]:
                del self._known[key]
        for forget in self._told:
            forget((tag("person", tenant, person),))


def _tags(key: _Key) -> tuple[str, ...]:
    """Return the tags of what a profile was made of: a person, and a session if there was one."""
    tenant, person, session_id = key
    of_person = tag("person", tenant, person)
    return (of_person,) if session_id is None else (of_person, tag("session", tenant, session_id))
