"""Get a bundle ready beside requests without their noticing: small pieces of work, each followed by a long rest.

A replica has one interpreter, and whoever holds its lock is not asked what for. Priorities do not help: a thread that
the kernel runs last would hold the lock while it waits for the processor, and everybody with it. So the thread that
loads has the priority of those who answer, and takes little: an eighth of a core, at moments when nobody waits for an
answer. Where such moments do not come, it takes a fraction of that, so that a load ends under every load.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from retrank.contract.rest import Rest, no_rest
from retrank.serving.pipeline import Clock

REST = 7.0
"""Seconds of rest per second of work: a load takes an eighth of one core."""
MOST_REST = 23.0
"""The same where somebody always waits for an answer: a load takes a twenty-fourth of one core."""
LOOK_S = 0.004
"""How long to wait before looking again whether somebody does."""
_SLICE_S = 0.1
"""A longer rest is looked up from this often, whether the work is still wanted."""


def always() -> bool:
    """Every moment is a good one: nobody answers here, or nobody knows."""
    return True


class Pace(NamedTuple):
    """How a load takes its rests.

    Attributes:
        sleep: waits for some seconds.
        busy: seconds of processor time that this thread used; waiting for others is no work.
        calm: tells whether nobody waits for an answer at the moment.
    """

    sleep: Callable[[float], None] = time.sleep
    busy: Clock = time.thread_time
    calm: Callable[[], bool] = always

    def begin(self, look: Rest = no_rest) -> Rest:
        """Return what to call after every piece of work from now on, in this thread.

        `look` is called before a rest and during a long one; what it raises ends the work.
        """
        rested_at = self.busy()

        def rest() -> None:
            nonlocal rested_at
            worked = self.busy() - rested_at
            look()
            self._sleep(REST * worked, look)
            more = (MOST_REST - REST) * worked
            while more > 0 and not self.calm():
                self._sleep(min(LOOK_S, more), look)
                more -= LOOK_S
            rested_at = self.busy()

        return rest

    def _sleep(self, seconds: float, look: Rest) -> None:
        while seconds > _SLICE_S:
            self.sleep(_SLICE_S)
            seconds -= _SLICE_S
            look()
        self.sleep(seconds)
