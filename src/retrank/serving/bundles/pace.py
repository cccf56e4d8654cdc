"""Get a bundle ready beside requests without their noticing: small pieces of work, each followed by a long rest.

A replica has one interpreter, and whoever holds its lock is not asked what for. Priorities do not help: a thread that
the kernel runs last would hold the lock while it waits for the processor, and everybody with it. So the thread that
loads has the priority of those who answer, and takes little.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from retrank.contract.rest import Rest
from retrank.serving.pipeline import Clock

REST = 7.0
"""Seconds of rest per second of work: a load takes an eighth of one core."""


class Pace(NamedTuple):
    """How a load takes its rests.

    Attributes:
        sleep: waits for some seconds.
        busy: seconds of processor time that this thread used; waiting for others is no work.
    """

    sleep: Callable[[float], None]
    busy: Clock = time.thread_time

    def begin(self) -> Rest:
        """Return what to call after every piece of work from now on, in this thread."""
        rested_at = self.busy()

        def rest() -> None:
            nonlocal rested_at
            self.sleep(REST * (self.busy() - rested_at))
            rested_at = self.busy()

        return rest
