"""Replicas of one host load one after the other: whoever holds the lock of a file loads.

The kernel frees the lock when its holder dies, however it dies. Nobody waits for ever: a replica whose turn does not
come loads all the same, which costs latency and nothing else.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from retrank.serving.pipeline import Clock

_POLL_S = 0.05
_log = logging.getLogger(__name__)


class Turn:
    """The right to load, for one replica of a host at a time."""

    def __init__(self, path: Path, *, wait_s: float, clock: Clock, sleep: Callable[[float], None]) -> None:
        """Share a turn with everybody on this host who names the same file.

        Args:
            path: of the lock; made when it is missing.
            wait_s: how long to wait for the turn.
            clock, sleep: monotonic seconds, and waiting for some.
        """
        self._path, self._wait_s, self._clock, self._sleep = path, wait_s, clock, sleep

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Do something when the turn has come, or the wait is over."""
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _log.warning("%s: %s; loading without waiting for other replicas", self._path, error.strerror)
            yield
            return
        try:
            self._wait(lock)
            yield
        finally:
            os.close(lock)

    def _wait(self, lock: int) -> None:
        until = self._clock() + self._wait_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock() >= until:
                    _log.warning("another replica loads for more than %g s; loading beside it", self._wait_s)
                    return
            except OSError as error:  # a file system without locks
                _log.warning("%s: %s; loading without waiting for other replicas", self._path, error.strerror)
                return
            self._sleep(_POLL_S)
