"""Copies what was committed from the log of a SQLite file (`-wal`) into the file itself, beside those who write.

SQLite would do so inside the commit that makes the log long, with two waits for the disk, and whoever waits for that
commit waits too. Here a thread does it soon after a write, and ends when nobody writes any more.
"""

import threading
from collections.abc import Callable

from retrank.serving.stores.protocol import StoreUnavailable

EVERY_S = 0.25
SOON_ROWS = 2_000
"""So many changed rows, a megabyte or so of pages, are copied at once."""


def _in_thread(act: Callable[[], None]) -> None:
    threading.Thread(target=act, name="state-upkeep", daemon=True).start()


class Upkeep:
    """Calls `copy` a moment after a write, and again as long as there are writes."""

    def __init__(
        self,
        copy: Callable[[], None],
        every_s: float = EVERY_S,
        soon_rows: int = SOON_ROWS,
        *,
        start: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        """Wait for the first write.

        Args:
            copy: what is called; it may raise `StoreUnavailable`.
            every_s: seconds from a write to the call, at most.
            soon_rows: so many changed rows that wait are copied at once.
            start: runs something without waiting for it; raises RuntimeError when it cannot.
        """
        self._copy, self._every_s, self._soon_rows, self._start = copy, every_s, soon_rows, start
        self._due = threading.Event()
        self._lock = threading.Lock()
        self._rows = 0
        self._wrote = self._running = self._ended = False

    def wrote(self, rows: int = 1) -> None:
        """Say that something was committed, and how many rows it changed."""
        with self._lock:
            self._wrote = True
            self._rows += rows
            if self._rows >= self._soon_rows:
                self._due.set()
            if self._running or self._ended:
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
        with self._lock:
            self._ended = True
            self._due.set()

    def _run(self) -> None:
        while True:
            self._due.wait(self._every_s)
            with self._lock:
                if self._ended:
                    return
                if not self._wrote:
                    self._running = False
                    return
                self._wrote, self._rows = False, 0
                self._due.clear()
            try:
                self._copy()
            except StoreUnavailable:  # the log grows meanwhile; those who read and write say what is wrong
                self._wrote = True
            except BaseException:
                with self._lock:
                    self._running = False
                raise
