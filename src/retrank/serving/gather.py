"""Read what the stores know, once, when a request begins; what cannot be read in time is left out and named."""

from typing import NamedTuple

from retrank.contract.api import DegradedReason
from retrank.serving.overlay import NO_CHANGES, Overlay
from retrank.serving.pipeline import Clock
from retrank.serving.stage_times import StageTime
from retrank.serving.stores.protocol import NOBODY, Profile, Profiles, StoreUnavailable
from retrank.serving.surroundings import Surroundings


class Who(NamedTuple):
    """Whose request it is: the tenant, the person (see `person_key`; "" for nobody) and the visit."""

    tenant: str
    person: str = ""
    session_id: str | None = None


class Gathered(NamedTuple):
    """What surrounds a request, and how many seconds reading it took."""

    around: Surroundings
    took_s: float


class Gather:
    """Reads profiles and changes of the catalogue."""

    def __init__(
        self, profiles: Profiles | None, overlay: Overlay | None, *, deadline_ms: int, clock: Clock, now: Clock
    ) -> None:
        """Keep the stores.

        Args:
            profiles: live profiles; None without a store.
            overlay: changes of the catalogue; None without a store.
            deadline_ms: of requests that set none.
            clock: monotonic seconds.
            now: seconds since the Unix epoch.
        """
        self._profiles, self._overlay = profiles, overlay
        self._deadline_ms, self._clock, self._now = deadline_ms, clock, now
        self._profile_time = StageTime()

    def around(self, who: Who, deadline_ms: int | None = None, seed: int = 0) -> Gathered:
        """Read what is known; never fails."""
        started = self._clock()
        budget_s = (deadline_ms or self._deadline_ms) / 1e3
        lacking: list[DegradedReason] = []
        skipped: list[str] = []
        changes, fresh = (NO_CHANGES, True) if self._overlay is None else self._overlay.look(who.tenant)
        if not fresh:
            lacking.append("catalogue_stale")
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
        return Gathered(Surroundings(profile, changes, left_s, seed, tuple(lacking), tuple(skipped)), took_s)

    def _profile(self, profiles: Profiles, who: Who) -> tuple[Profile, bool]:
        started = self._clock()
        try:
            return profiles.profile(who.tenant, who.person, who.session_id, self._now()), True
        except StoreUnavailable:
            return NOBODY, False
        finally:
            self._profile_time.took(self._clock() - started)
