"""The loop of a replica: read what should answer, get there without a failed request, watch, and take back.

A step is one look at the document. The old bundle answers until the new one is loaded and proven; then one assignment
swaps them, when the other replicas are ready too. What cannot be loaded is reported and taken out of the document: one
replica's finding is everyone's. Only a replica that came up beside a fleet that serves the bundle keeps its trouble to
itself, and goes on trying. A document that the store lost is written again. No step waits for other replicas: what they
hold up is tried again with the next one, and what answers meanwhile is watched as ever. A newer order ends what is done
for the one before, and nothing answers that is not wanted when it is ready.

At most two bundles are in memory: the one that answers, and its predecessor or the one coming. Room is made before
loading, never after.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from retrank.contract.errors import FormatError
from retrank.contract.rest import Rest
from retrank.serving.bundles.desired import Change, Desired, edit, read, refuse, restore
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.guarding import Guard
from retrank.serving.bundles.holder import Holder, Serving
from retrank.serving.bundles.loading import Loading
from retrank.serving.bundles.status import Trouble
from retrank.serving.bundles.together import not_ready
from retrank.serving.pipeline import Clock
from retrank.serving.recommender import Recommender
from retrank.serving.stores.protocol import Control, StoreUnavailable
from retrank.serving.swap_settings import BundlesSettings
from retrank.serving.telemetry.facade import SwapResult

RETRY_S = 10.0
_log = logging.getLogger(__name__)


class _MovedOn(Exception):  # noqa: N818  (no mistake: what is being done is not wanted any more)
    """The document is another one since the work began."""


class _NoGood(Exception):  # noqa: N818  (a finding about a bundle, whatever it was that failed)
    """A bundle cannot answer here; the cause is what went wrong."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(name)
        self.name, self.reason = name, f"{type(cause).__name__}: {cause}"


class _Noted(NamedTuple):
    """A trouble, and the generation that it kept from being carried out."""

    generation: int
    trouble: Trouble


class _Failed(NamedTuple):
    generation: int
    again_at: float


class _Approach(NamedTuple):
    """On the way to a generation and what answers then.

    Attributes:
        generation: of the document.
        answers: the bundles that are to answer.
        since: when this replica first saw that they are.
        until: when others are waited for no longer; None: nothing had to be loaded.
    """

    generation: int
    answers: tuple[str, ...]
    since: float
    until: float | None = None


class Reconciler:
    """Carries out the desired state in this process."""

    def __init__(
        self,
        replica: str,
        control: Control,
        front: Front,
        holder: Holder,
        *,
        loader: Loading,
        settings: BundlesSettings,
        clock: Clock,
        now: Clock,
    ) -> None:
        """Begin with what the holder serves.

        Args:
            replica: who this is, for the audit trail.
            control: holds the document.
            front: knows recent requests and figures.
            holder: is told what answers.
            loader: gets a bundle ready.
            settings: when a new bundle is taken back, and how long others are waited for.
            clock: monotonic seconds.
            now: seconds since 1970.
        """
        self._replica = replica
        self._control = control
        self._front = front
        self._holder = holder
        self._loader = loader
        self._guard = Guard(front, settings.watch, clock)
        self._patience_s, self._poll_s = settings.patience_s, settings.poll_s
        self._clock = clock
        self._now = now
        active = holder.serving.active
        self._resident: dict[str, Recommender] = {active.bundle.id: active}
        self._failed, self._approached = _Failed(0, 0.0), _Approach(0, (), 0.0)
        self._known: Desired | None = None
        self.prepare: Callable[[Recommender, Rest], None] = lambda _, __: None
        """Told every recommender before it answers, so that no request finds something left to do.

        It calls what it is given with it between pieces of work; what that raises ends the preparation.
        """
        self.loading: str | None = None
        self._noted: dict[str, _Noted] = {}

    @property
    def resident(self) -> tuple[str, ...]:
        """The bundles in memory."""
        return tuple(self._resident)

    @property
    def troubles(self) -> dict[str, Trouble]:
        """Why a bundle that should answer, or should have, does not; by its id."""
        return {name: noted.trouble for name, noted in self._noted.items()}

    @property
    def took_s(self) -> float:
        """Seconds since this replica first saw that those should answer which now do, or were to."""
        return self._clock() - self._approached.since

    def step(self) -> SwapResult | None:
        """Look once, do what there is to do, and return how a change of bundle ended; None when nothing changed.

        Raises:
            StoreUnavailable: the control store does not answer; what serves goes on serving.
        """
        desired = self._read()
        if desired is None:
            return None
        result: SwapResult | None = None
        if desired.generation != self._holder.serving.generation and (
            desired.generation != self._failed.generation or self._clock() >= self._failed.again_at
        ):
            result = self._approach(desired)
        return result or self._look(desired)

    def _read(self) -> Desired | None:
        """Return the document; the one known before when the store lost it, which is then written again."""
        desired, known = read(self._control), self._known
        if known is not None and (desired is None or desired.generation < known.generation):
            reason = (
                "the store lost it" if desired is None else f"the store came back at generation {desired.generation}"
            )
            _log.error("the document of what should answer: %s; writing generation %d again", reason, known.generation)
            line = Change(at=self._now(), by=self._replica, action="restore", id=known.active, reason=reason)
            desired = restore(self._control, known, line)
        self._known = desired
        return desired

    def _approach(self, desired: Desired) -> SwapResult | None:
        self._begin(desired)
        try:
            return self._carry_out(desired)
        except _MovedOn:
            _log.info("generation %d is not wanted any more; what was begun for it is given up", desired.generation)
            return None
        except _NoGood as found:  # whatever it is, the old bundle goes on
            _log.exception("bundle %s was refused", found.name)
            again_at = self._clock() + RETRY_S
            self._failed = _Failed(desired.generation, again_at)
            self._approached = self._approached._replace(since=again_at)  # the next try waits for its own turn
            self._refuse(found.name, desired, found.reason, for_all=self._settled)
            return "failed"

    def _carry_out(self, desired: Desired) -> SwapResult | None:
        """Load, prepare, wait for others and swap, as far as that can be done now.

        What waits is prepared again with every step, for what changed meanwhile, so that little is left at the end.

        Raises:
            _NoGood: a bundle cannot be loaded or prepared.
            _MovedOn: something else is wanted meanwhile.
        """
        for name in desired.answers():
            with _blaming(name):
                if name not in self._resident and not self._load(name, keep=desired.answers()):
                    return None
        look = self._end_when_moved_on(desired.generation)
        for name in desired.answers():
            with _blaming(name):
                self.prepare(self._resident[name], look)
        if self._waits(desired):
            return None
        latest = read(self._control)  # after the last thing that takes time
        if latest is None or latest.generation != desired.generation:
            return None
        self._serve(desired)
        return "activated"

    def _begin(self, desired: Desired) -> None:
        """Note a new order. One for the same bundles, as for a larger trial, puts no wait off that has begun."""
        on_way, answers = self._approached, desired.answers()
        if desired.generation == on_way.generation:
            return
        self._noted = {name: noted for name, noted in self._noted.items() if name not in answers}  # of an earlier try
        if answers == on_way.answers and self._holder.serving.generation != on_way.generation:
            self._approached = on_way._replace(generation=desired.generation)
        else:
            self._approached = _Approach(desired.generation, answers, self._clock())

    def _waits(self, desired: Desired) -> bool:
        """Tell whether this replica is ready before others that are to swap with it.

        Not for ever, not at its start, and not where it had the bundles in memory: a rollback waits for nobody.
        """
        until = self._approached.until
        if until is None or not self._settled:
            return False
        others = not_ready(self._control, desired.answers(), self._now(), besides=self._replica)
        if others and self._clock() >= until:
            _log.warning("swapping before %s is ready: waited %g s", ", ".join(others), self._patience_s)
        return bool(others) and self._clock() < until

    def _load(self, name: str, *, keep: Sequence[str]) -> bool:
        """Load a bundle, if it is this replica's turn to load; tell whether it was."""
        with self._loader.turn(self._approached.since) as mine:
            if not mine:
                return False
            serving = self._holder.serving
            in_use = {picked.recommender.bundle.id for picked in serving.variants()}
            self._resident = {one: held for one, held in self._resident.items() if one in in_use or one in keep}
            self.loading = name
            try:
                beside = serving.active.runtime.manifest
                recent, look = self._front.recent_requests(), self._end_when_moved_on(self._approached.generation)
                self._resident[name] = self._loader.load(name, beside, recent, look)
            finally:
                self.loading = None
        self._approached = self._approached._replace(until=self._clock() + self._patience_s)
        return True

    def _end_when_moved_on(self, generation: int) -> Rest:
        """Return what looks at the document as often as steps do: a rollback does not wait for the end of a load."""
        looked_at = self._clock()

        def look() -> None:
            nonlocal looked_at
            if self._clock() < looked_at + self._poll_s:
                return
            looked_at = self._clock()
            with suppress(StoreUnavailable, FormatError):  # the next step says so
                desired = read(self._control)
                if desired is not None and desired.generation > generation:
                    raise _MovedOn

        return look

    def _serve(self, desired: Desired) -> None:
        before, canary = self._holder.serving, desired.canary
        active = self._resident[desired.active]
        self._guard.begin(before, desired)
        if canary is None:
            self._holder.serve(Serving(active, generation=desired.generation))
        else:
            on_trial = self._resident[canary.id]
            self._holder.serve(Serving(active, on_trial, canary.percent, canary.salt, desired.generation))
        self._let_go_of_troubles(desired)
        kept = (*desired.answers(), *([desired.previous] if desired.previous and canary is None else []))
        self._resident = {name: held for name, held in self._resident.items() if name in kept}
        self._front.keep_figures(kept)

    def _let_go_of_troubles(self, desired: Desired) -> None:
        """Forget troubles that are over: of what answers now, and of every order but the one that this takes back."""
        self._noted = {
            name: noted
            for name, noted in self._noted.items()
            if name not in desired.answers() and noted.generation >= desired.generation - 1
        }

    def _look(self, desired: Desired) -> SwapResult | None:
        found = self._guard.look(self._holder.serving, desired)
        for name, reason in found:
            self._refuse(name, desired, reason)
        return "rolled_back" if found else None

    @property
    def _settled(self) -> bool:
        """Whether this replica ever carried out a desired state in full."""
        return self._holder.serving.generation > 0

    def _refuse(self, name: str, desired: Desired, reason: str, *, for_all: bool = True) -> None:
        trouble = Trouble.of(reason, self._now())
        self._noted = {**self._noted, name: _Noted(desired.generation, trouble)}
        if not for_all:
            return
        line = Change(at=trouble.at, by=self._replica, action="refuse", id=name, reason=trouble.said)
        edit(self._control, refuse(name, desired.generation, line))


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Say of everything that fails which bundle it is a finding about."""
    try:
        yield
    except _MovedOn:
        raise
    except Exception as error:
        raise _NoGood(name, error) from error
