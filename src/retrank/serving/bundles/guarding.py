"""Watch a bundle that began to answer: against its predecessor for a while, on a trial against the active one."""

from typing import NamedTuple

from retrank.serving.bundles.desired import Desired
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.holder import Serving
from retrank.serving.bundles.watch import Summary, breach
from retrank.serving.pipeline import Clock
from retrank.serving.swap_settings import WatchSettings


class Finding(NamedTuple):
    """A bundle that is worse than it may be, and how."""

    bundle: str
    reason: str


class _Watch(NamedTuple):
    bundle: str
    before: Summary
    until: float


class Guard:
    """Compares the figures of bundles that answer in this process."""

    def __init__(self, front: Front, limits: WatchSettings, clock: Clock) -> None:
        """Begin with nothing to watch.

        Args:
            front: knows the figures.
            limits: what is allowed, and for how long a new bundle is watched.
            clock: monotonic seconds.
        """
        self._front, self._limits, self._clock = front, limits, clock
        self._watch: _Watch | None = None

    def begin(self, before: Serving, desired: Desired) -> None:
        """Watch what is about to answer and did not; figures of an earlier time do not count."""
        was, canary = before.active.bundle.id, desired.canary
        if was != desired.active:
            self._front.forget(desired.active)
            self._watch = None
            if desired.previous is not None:
                until = self._clock() + self._limits.watch_s
                self._watch = _Watch(desired.active, self._front.figures(was).summary(), until)
        if canary is not None and (before.canary is None or before.canary.bundle.id != canary.id):
            self._front.forget(canary.id)

    def look(self, serving: Serving, desired: Desired) -> list[Finding]:
        """Say which bundles must go.

        On the way to another document that is about what answers here, as long as the document wants it to.
        """
        found = []
        on_trial, watch = serving.canary, self._watch
        if on_trial is not None and desired.canary is not None and desired.canary.id == on_trial.bundle.id:
            found += self._compared(on_trial.bundle.id, self._front.figures(serving.active.bundle.id).summary())
        if watch is not None and watch.bundle in desired.answers():
            worse = self._compared(watch.bundle, watch.before)
            found += worse
            if worse or self._clock() >= watch.until:
                self._watch = None
        return found

    def _compared(self, name: str, before: Summary) -> list[Finding]:
        reason = breach(before, self._front.figures(name).summary(), self._limits)
        return [] if reason is None else [Finding(name, reason)]
