"""What to show when the service does not answer: the last good answer, else a popular list, else nothing."""

from collections import OrderedDict
from threading import Lock

from retrank.client.answers import LOCAL_FALLBACK, Slate, SlateDegraded, SlateEntry


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

    def answer(self, keys: tuple[str, ...], k: int) -> Slate | None:
        """Return up to k items of the first key that is known, else of the static list; None when there is nothing."""
        with self._lock:
            known = next((self._answers[key] for key in keys if key in self._answers), None)
        if known is not None:
            return known.as_fallback(k)
        if not self._items:
            return None
        entries = [
            SlateEntry(item_id=item_id, rank=rank, score=0.0) for rank, item_id in enumerate(self._items[:k], start=1)
        ]
        return Slate(items=entries, degraded=SlateDegraded(is_degraded=True, reasons=[LOCAL_FALLBACK]))
