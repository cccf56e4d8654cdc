"""Recommenders that answer at the moment: changes of the catalogue are put into their rows before requests see them."""

import threading
from collections.abc import Iterable
from weakref import WeakSet

from retrank.contract.rest import Rest, no_rest
from retrank.serving.changes import Changes
from retrank.serving.recommender import Recommender


class Readied:
    """Remembers who answers, for as long as somebody else keeps them."""

    def __init__(self) -> None:
        """Start with nobody."""
        self._answering: WeakSet[Recommender] = WeakSet()
        self._lock = threading.Lock()

    def note(self, recommender: Recommender) -> Recommender:
        """Remember a recommender that answers, and return it."""
        if recommender not in self._answering:
            with self._lock:
                self._answering.add(recommender)
        return recommender

    def complete(self, recommender: Recommender, known: Iterable[Changes], rest: Rest = no_rest) -> None:
        """Let one that is about to answer prepare for all that is known, to the last new item; `rest` between steps."""
        self.note(recommender)
        for changes in known:
            while recommender.prepare(changes):
                rest()
            rest()

    def carry_over(self, changes: Changes) -> None:
        """Let all of them begin a state that requests are about to see; quick."""
        for recommender in self._all():
            recommender.carry_over(changes)

    def prepare(self, changes: Changes) -> None:
        """Let all of them prepare for a state of the catalogue; may take long."""
        for recommender in self._all():
            recommender.prepare(changes)

    def _all(self) -> list[Recommender]:
        with self._lock:
            return list(self._answering)
