"""Counts that are renewed while a retriever stays as it is: what was popular and new when a request was made.

A retriever is trained now and then; what everybody reads can be counted every night, or every hour. Renewal k happens
`k * every` after training ended and knows every event before that moment, of all users and nothing later, so a request
between two renewals is answered with what was known at the earlier one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.moments import HOUR_US
from retrank.contract.sequences import Sequences


@dataclass(frozen=True)
class Renewals:
    """When counts are renewed, and from what.

    Attributes:
        item_rows: `[E]` int32 items of all events of the store, in order of time.
        times: `[E]` int64 microseconds, as in `Sequences`.
        since: end of training, in microseconds: renewal 0.
        every: microseconds between renewals, >= 1.
    """

    item_rows: NDArray[np.int32]
    times: NDArray[np.int64]
    since: int
    every: int

    def number(self, moment: int) -> int:
        """Return which renewal a request at a moment is answered with; 0 until the first one is due."""
        return max(0, (moment - self.since) // self.every)

    def known_at(self, number: int) -> Sequences:
        """Return every event before a renewal as one history."""
        stop = int(np.searchsorted(self.times, self.since + number * self.every, side="left"))
        return Sequences(self.item_rows[:stop], np.array([0, stop], dtype=np.int64), self.times[:stop])


def renewals(sequences: Sequences, since: int, hours: float | None) -> Renewals | None:
    """Return the renewals after the end of training; None when nothing is renewed.

    Args:
        sequences: all histories of the store, with times.
        since: first microsecond after training.
        hours: between renewals, > 0; None = counts stay as training left them.
    """
    if hours is None:
        return None
    assert sequences.times is not None, "a ranker needs times"
    order = np.argsort(sequences.times, kind="stable")
    every = max(1, int(hours * HOUR_US))
    return Renewals(np.asarray(sequences.item_rows[order]), np.asarray(sequences.times[order]), since, every)
