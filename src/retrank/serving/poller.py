"""A thread for what a service does beside its answers, every so often."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Poller:
    """A thread that does something again and again, whatever happens."""

    def __init__(self, act: Callable[[], None], every_s: float, name: str) -> None:
        """Start at once."""
        self._act, self._every_s = act, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, when what is being done is done."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._act()
            except Exception:  # noqa: BLE001  (the next time may go well, and nobody else would notice)
                _log.exception("%s failed, trying again", self._thread.name)
