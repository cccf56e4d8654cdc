"""Read what the stores know, once, when a request begins; what cannot be read in time is left out and named."""

from typing import NamedTuple, Protocol

from retrank.contract.api import DegradedReason, Window
from retrank.serving.changes import NO_CHANGES
from retrank.serving.live_rules import Rules
from retrank.serving.overlay import Overlay
from retrank.serving.pipeline import Clock
from retrank.serving.stage_times import StageTime
from retrank.serving.stores.protocol import NOBODY, Profile, Profiles, StoreUnavailable
from retrank.serving.surroundings import Surroundings
from retrank.serving.trends import Trend, Trends

MIN_ACTS = 50.0
"""Faded acts on a placement below which its trend answers nobody who did not ask for it: a few clicks are noise."""


class Who(NamedTuple):
    """Whose request it is: the tenant, the person (see `person_key`; "" for nobody) and the visit."""

    tenant: str
    person: str = ""
    session_id: str | None = None


class Place(NamedTuple):
    """Whose trend matters: of a placement (None: anywhere), in a window; `asked` when the caller asks for just that."""

    placement: str | None
    window: Window
    asked: bool


class ProfileReader(Protocol):
    """Reads profiles; see `guard.profiles.GuardedProfiles` for one that answers while the store is away."""

    def read(self, tenant: str, person: str, session_id: str | None, now: float) -> tuple[Profile, str | None]:
        """Return what is known of a person, and which fallback said so; None when the store did."""
        ...


class Unguarded:
    """Reads a store itself."""

    def __init__(self, store: Profiles) -> None:
        """Read this store."""
        self._store = store

    def read(self, tenant: str, person: str, session_id: str | None, now: float) -> tuple[Profile, str | None]:
        """Return what the store knows, or nothing while it is away."""
        try:
            return self._store.profile(tenant, person, session_id, now), None
        except StoreUnavailable:
            return NOBODY, "anonymous"


class Stores(NamedTuple):
    """What is read for a request; None without a store."""

    profiles: ProfileReader | None = None
    overlay: Overlay | None = None
    trends: Trends | None = None


class Gathered(NamedTuple):
    """What surrounds a request, and how many seconds reading it took."""

    around: Surroundings
    took_s: float


class Gather:
    """Reads profiles and changes of the catalogue."""

    def __init__(self, stores: Stores, *, deadline_ms: int, clock: Clock, now: Clock) -> None:
        """Keep the stores.

        Args:
            stores: what is read.
            deadline_ms: of requests that set none.
            clock: monotonic seconds.
            now: seconds since the Unix epoch.
        """
        self._profiles, self._overlay, self._trends = stores
        self._deadline_ms, self._clock, self._now = deadline_ms, clock, now
        self._profile_time = StageTime()

    def around(
        self,
        who: Who,
        deadline_ms: int | None = None,
        seed: int = 0,
        place: Place | None = None,
        rules: Rules | None = (),
    ) -> Gathered:
        """Read what is known; never fails. `rules` go with it as they are, None where they could not be read."""
        started = self._clock()
        budget_s = (deadline_ms or self._deadline_ms) / 1e3
        lacking: list[DegradedReason] = []
        skipped: list[str] = []
        changes, fresh = (NO_CHANGES, True) if self._overlay is None else self._overlay.look(who.tenant)
        if not fresh:
            lacking.append("catalogue_stale")
        if rules is None:
            lacking.append("rules_unavailable")
        trend = None if place is None or self._trends is None else self._trend(self._trends, who, place)
        if place is not None and place.asked and trend is None:
            lacking.append("nothing_trends")
        profile = NOBODY
        if self._profiles is not None and who.person:
            left_s = budget_s - (self._clock() - started)
            if self._profile_time.usual_s > left_s:
                self._profile_time.skipped()
                skipped.append("profile")
                lacking += ["deadline", "profile_unavailable"]
            else:
                profile, known = self._profile(self._profiles, who)
                lacking += [] if known else ["profile_unavailable"]
        took_s = self._clock() - started
        left_s = max(budget_s - took_s, 0.0)
        return Gathered(
            Surroundings(profile, changes, trend, rules or (), left_s, seed, tuple(lacking), tuple(skipped)), took_s
        )

    def _trend(self, trends: Trends, who: Who, place: Place) -> Trend | None:
        """Return what trends; None when that is nothing, or too little to go by when nobody asked for it."""
        trend = trends.trend(who.tenant, place.placement, place.window)
        return trend if trend.acts >= (0.0 if place.asked else MIN_ACTS) and trend.counts else None

    def _profile(self, profiles: ProfileReader, who: Who) -> tuple[Profile, bool]:
        started = self._clock()
        profile, fallback = profiles.read(who.tenant, who.person, who.session_id, self._now())
        self._profile_time.took(self._clock() - started)
        return profile, fallback is None
