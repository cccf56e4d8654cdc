"""What to show when the service does not answer: the last good answer, else a popular list, else nothing."""

from collections import OrderedDict
from threading import Lock

from retrank.client.answers import Slate, SlateEntry


class Fallback:
    """Good answers by key, the oldest forgotten first. Safe to share between threads.

    Args:
        capacity: answers remembered, >= 0.
        items: item ids to show when nothing else is known, best first.
    """

    def __init__(self, capacity: int, items: tuple[str, ...] = ()) -> None:
        """Start with the static list alone."""
        self._capacity = capacity
        self._answers: OrderedDict[str, Slate] = OrderedDict()
        self._items = items
        self._lock = Lock()

    def remember(self, key: str, slate: Slate) -> None:
        """Keep a good answer; a degraded or empty one is not worth keeping."""
        if self._capacity == 0 or slate.degraded.is_degraded or not slate.items:
            return
        with self._lock:
            self._answers[key] = slate
            self._answers.move_to_end(key)
            while len(self._answers) > self._capacity:
                self._answers.popitem(last=False)

    def forget(self, key: str) -> None:
        """Drop the answer kept under a key, if there is one."""
        with self._lock:
            self._answers.pop(key, None)

    def answer(self, keys: tuple[str, ...], k: int, excluded: frozenset[str] = frozenset()) -> Slate | None:
        """Return up to k items of the first key that has any, else of the static list; None when there is nothing.

        Args:
            keys: the closest first.
            k: items wanted.
            excluded: items that must not appear.
        """
        with self._lock:
            known = [self._answers[key] for key in keys if key in self._answers]
        entries = [SlateEntry(item_id=item_id, rank=1, score=0.0) for item_id in self._items]
        answers = (slate.as_fallback(k, excluded) for slate in (*known, Slate(items=entries)))
        return next((slate for slate in answers if slate.items), None)
