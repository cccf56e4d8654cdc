"""Notices when this process stands still: no core for it, or one of its threads keeps the interpreter to itself.

Whoever measures how long something outside takes measures that too. A thread that only sleeps sees the difference: by
as much as it wakes up late, nothing here could have been noticed in time.
"""

import time
import weakref
from collections.abc import Callable
from threading import Thread

EVERY_S = 0.01


class Pulse:
    """Beats every few milliseconds and adds up how late the beats come."""

    def __init__(self, clock: Callable[[], float], every_s: float = EVERY_S) -> None:
        """Wait for the first beat.

        Args:
            clock: monotonic seconds.
            every_s: seconds between beats.
        """
        self._clock, self._every_s = clock, every_s
        self._state = (0.0, clock() + every_s)  # seconds late so far, when the next beat is due; replaced as a whole

    def start(self) -> "Pulse":
        """Beat from a thread, which ends when nobody holds this any more; returns itself."""
        Thread(target=_beat_on, args=(weakref.ref(self), self._every_s), name="pulse", daemon=True).start()
        return self

    def beat(self) -> None:
        """Note that this process runs."""
        now = self._clock()
        late_s, due = self._state
        self._state = (late_s + max(now - due, 0.0), now + self._every_s)

    def stood_still_s(self) -> float:
        """Return for how many seconds this process has stood still so far; the beat that is overdue counts."""
        late_s, due = self._state
        return late_s + max(self._clock() - due, 0.0)


def _beat_on(found: "weakref.ref[Pulse]", every_s: float) -> None:
    while (pulse := found()) is not None:
        pulse.beat()
        del pulse
        time.sleep(every_s)
