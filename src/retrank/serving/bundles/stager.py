"""Hold staged bundles ready on this host: fetch what is missing, check every byte, say what is there."""

from retrank.contract.errors import RetrankError
from retrank.serving.bundles.desired import Staged, read
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.pace import Pace
from retrank.serving.bundles.sources import parse_source
from retrank.serving.bundles.status import Trouble
from retrank.serving.pipeline import Clock
from retrank.serving.stores.protocol import Control

RETRY_S = 10.0


class Stager:
    """Works through the staged list; runs in a thread of its own, as a download may take minutes."""

    def __init__(self, control: Control, library: Library, *, clock: Clock, now: Clock, pace: Pace) -> None:
        """Start with nothing checked.

        Args:
            control: holds the list.
            library: where bundles go.
            clock: monotonic seconds, for retries.
            now: seconds since 1970.
            pace: leaves time to those who answer meanwhile.
        """
        self._control = control
        self._library = library
        self._clock, self._now, self._pace = clock, now, pace
        self._verified: frozenset[str] = frozenset()
        self._troubles: dict[str, Trouble] = {}
        self._retry_at: dict[Staged, float] = {}

    @property
    def verified(self) -> frozenset[str]:
        """Staged bundles that lie here, every byte checked."""
        return self._verified

    @property
    def troubles(self) -> dict[str, Trouble]:
        """Why a staged bundle is not ready, by its id."""
        return dict(self._troubles)

    def doubt(self, name: str) -> None:
        """Check a bundle once more, as it turned out to be no good; fetched again if it is damaged here."""
        self._verified -= {name}

    def step(self) -> None:
        """Bring every staged bundle that is not ready, or was not a while ago, here."""
        desired = read(self._control)
        staged = desired.staged if desired else ()
        names = {one.id for one in staged}
        self._verified &= names
        self._troubles = {name: one for name, one in self._troubles.items() if name in names}
        for one in staged:
            if one.id not in self._verified and self._retry_at.get(one, 0.0) <= self._clock():
                self._bring(one)

    def _bring(self, one: Staged) -> None:
        try:
            if one.source is None:
                self._library.check(one.id, self._pace.begin())
            else:
                self._library.fetch(one.id, parse_source(one.source), self._pace.begin())
        except (RetrankError, OSError) as error:
            self._troubles = {**self._troubles, one.id: Trouble.of(str(error), self._now())}
            self._retry_at[one] = self._clock() + RETRY_S
        else:
            self._troubles = {name: trouble for name, trouble in self._troubles.items() if name != one.id}
            self._verified |= {one.id}
