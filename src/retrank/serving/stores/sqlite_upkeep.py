"""Copies what was committed from the log of a SQLite file (`-wal`) into the file itself, beside those who write.

SQLite would do so inside the commit that makes the log long, with two waits for the disk, and whoever waits for that
commit waits too. Here a thread does it soon after a write, and ends when nobody writes any more.
"""

import threading
from collections.abc import Callable

from retrank.serving.stores.protocol import StoreUnavailable

EVERY_S = 0.25


def _in_thread(act: Callable[[], None]) -> None:
    threading.Thread(target=act, name="state-upkeep", daemon=True).start()


class Upkeep:
    """Calls `copy` a moment after a write, and again as long as there are writes."""

    def __init__(
        self,
        copy: Callable[[], None],
        every_s: float = EVERY_S,
        *,
        start: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        """Wait for the first write.

        Args:
            copy: what is called; it may raise `StoreUnavailable`.
            every_s: seconds from a write to the call.
            start: runs something without waiting for it; raises RuntimeError when it cannot.
        """
        self._copy, self._every_s, self._start = copy, every_s, start
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._wrote = self._running = False

    def wrote(self) -> None:
        """Say that something was committed."""
        with self._lock:
            self._wrote = True
            if self._running or self._ended.is_set():
                return
            try:
                self._start(self._run)
            except (
                RuntimeError
            ):  # no thread could be started; what was committed stays so, and the next write tries again
                return
            self._running = True

    def close(self) -> None:
        """Copy no more; SQLite copies the rest when the last connection is closed."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            with self._lock:
                if not self._wrote:
                    self._running = False
                    return
                self._wrote = False
            try:
                self._copy()
            except StoreUnavailable:  # the log grows meanwhile; those who read and write say what is wrong
                self._wrote = True
            except BaseException:
                with self._lock:
                    self._running = False
                raise
