"""Keep what the shared store says at hand: a thread (see `poller`) looks again and again, requests read memory.

A request asks the store itself only for what nobody asked about lately, and not even then while the store is away: a
store that hangs costs a thread its patience and no request its deadline.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from retrank.serving.stores.protocol import StoreUnavailable

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
IDLE_S = 60.0
"""What nobody asked about for so long is not looked at again."""
KEPT_S = 3_600.0
"""What was not read for so long is let go: memory is for those who ask."""
_LEAST_OLD_S = 1.0


class _Entry(NamedTuple, Generic[Value]):
    """A value, and when it was read."""

    value: Value
    read_at: float


class KeptFresh(Generic[Key, Value]):
    """Values by key, each no older than a few looks while the store answers."""

    def __init__(
        self,
        read: Callable[[Key, Value], Value],
        nothing: Value,
        clock: Callable[[], float],
        *,
        every_s: float,
        max_keys: int,
    ) -> None:
        """Start without knowledge.

        Args:
            read: key and the value known so far -> the value now; may raise `StoreUnavailable`.
            nothing: the value of a key before it was read.
            clock: monotonic seconds.
            every_s: how often `poll` is called; a value four times as old, and a second at least, is not fresh.
            max_keys: keys kept; beyond, the one read longest ago goes. As many are polled, those asked about last.
        """
        self._read, self._nothing, self._clock, self._max_keys = read, nothing, clock, max_keys
        self._old_s = max(4 * every_s, _LEAST_OLD_S)
        self._entries: dict[Key, _Entry[Value]] = {}
        self._asked_at: dict[Key, float] = {}
        self._away = False
        self._lock, self._noting = threading.Lock(), threading.Lock()

    def look(self, key: Key) -> tuple[Value, bool]:
        """Return the value and whether it is fresh."""
        now = self._clock()
        self._note(key, now)
        entry = self._entries.get(key)
        if entry is not None and now - entry.read_at <= self._old_s:
            return entry.value, True
        if not self._away:
            try:
                return self.refresh(key), True
            except StoreUnavailable:
                pass
        return (self._nothing if entry is None else entry.value), False

    def values(self) -> list[Value]:
        """Return what is known of every key."""
        return [entry.value for entry in list(self._entries.values())]

    def refresh(self, key: Key) -> Value:
        """Ask the store now.

        Raises:
            StoreUnavailable: it does not answer.
        """
        with self._lock:  # a slow look must not replace what a later one brought
            before = self._entries.get(key)
            try:
                value = self._read(key, self._nothing if before is None else before.value)
            except StoreUnavailable:
                self._away = True
                raise
            self._away = False
            if before is None and len(self._entries) >= self._max_keys:
                oldest = min(self._entries, key=lambda one: self._entries[one].read_at)
                self._entries.pop(oldest)
                self._forget(oldest)
            self._entries[key] = _Entry(value, self._clock())
            return value

    def _forget(self, key: Key) -> None:
        with self._noting:
            self._asked_at.pop(key, None)

    def _note(self, key: Key, now: float) -> None:
        with self._noting:
            self._asked_at.pop(key, None)
            self._asked_at[key] = now  # at the end: whoever was not asked about for the longest stands first
            if len(self._asked_at) > self._max_keys:
                del self._asked_at[next(iter(self._asked_at))]

    def poll(self) -> None:
        """Look at everything that was asked about lately; give up until next time when the store does not answer.

        What was not read for long is let go.
        """
        since = self._clock() - IDLE_S
        with self._noting:
            asked = list(self._asked_at.items())
        for key, asked_at in asked:
            if asked_at < since:
                self._forget(key)
                continue
            try:
                self.refresh(key)
            except StoreUnavailable:
                return
        if not self._away:  # what is old because the store is away is better than nothing
            self._let_go(self._clock() - KEPT_S)

    def _let_go(self, since: float) -> None:
        with self._lock:
            for key in [key for key, entry in self._entries.items() if entry.read_at < since]:
                del self._entries[key]
