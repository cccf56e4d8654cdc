"""Replicas of one host load one after the other: whoever holds the lock of a file loads.

The kernel frees the lock when its holder dies, however it dies. Nobody waits here: whoever finds that another one loads
does something else and asks again. And nobody does so for ever: a replica whose turn does not come loads all the same,
which costs latency and nothing else.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrank.serving.pipeline import Clock

_log = logging.getLogger(__name__)


class Turn:
    """The right to load, for one replica of a host at a time."""

    def __init__(self, path: Path, *, wait_s: float, clock: Clock) -> None:
        """Share a turn with everybody on this host who names the same file.

        Args:
            path: of the lock; made when it is missing.
            wait_s: seconds after which it is everybody's turn.
            clock: monotonic seconds.
        """
        self._path, self._wait_s, self._clock = path, wait_s, clock

    @contextmanager
    def taken(self, since: float) -> Iterator[bool]:
        """Say at once whether the turn has come, and keep it meanwhile; `since` is when it was first asked for."""
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _log.warning("%s: %s; loading without waiting for other replicas", self._path, error.strerror)
            yield True
            return
        try:
            yield self._has_come(lock, since)
        finally:
            os.close(lock)

    def _has_come(self, lock: int, since: float) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._clock() < since + self._wait_s:
                return False
            _log.warning("another replica loads for more than %g s; loading beside it", self._wait_s)
        except OSError as error:  # a file system without locks
            _log.warning("%s: %s; loading without waiting for other replicas", self._path, error.strerror)
        return True
