"""Event histories of many users as flat columns: the shape in which every part of retrank passes histories around.

User `u` (0-based position, not `user_row`) owns events `offsets[u]:offsets[u + 1]`, oldest first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError


@dataclass(frozen=True, slots=True)
class Sequences:
    """Per-user event sequences in compressed sparse row form (possibly memory-mapped, never modified).

    Attributes:
        item_rows: `[E]` int32, values 1..num_items, oldest event first within a user.
        offsets: `[U + 1]` int64, non-decreasing, `offsets[0] == 0`, `offsets[-1] == E`.
        times: `[E]` int64 microseconds since the Unix epoch (UTC), non-decreasing within a user; None if unknown.
        asked_at: `[U]` int64, the moment (as in `times`) for which something is asked about each history, no earlier
            than its newest event; None when nothing is asked or the moment is unknown.
        actions: `[E]` int16, what was done (viewed, bought, ...): rows 1..A of the store's action names, 0 = unknown;
            None when no action is known.
        contexts: `[E, F]` int32, what was known of the moment of each event: rows of F fields, 0 = unknown, see
            `contract.context`; None when no field is read.
        asked_in: `[U, F]` int32, the same of the moment for which something is asked about each history.
    """

    item_rows: NDArray[np.int32]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64] | None = None
    asked_at: NDArray[np.int64] | None = None
    actions: NDArray[np.int16] | None = None
    contexts: NDArray[np.int32] | None = None
    asked_in: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        """Refuse columns that do not fit together.

        Raises:
            DataError: lengths of the columns disagree.
        """
        if len(self.offsets) == 0 or self.offsets[-1] != len(self.item_rows):
            last = self.offsets[-1] if len(self.offsets) else "nothing"
            raise DataError(f"offsets end at {last} but there are {len(self.item_rows)} events; they must agree")
        if self.times is not None and len(self.times) != len(self.item_rows):
            raise DataError(f"{len(self.times)} times for {len(self.item_rows)} events; one per event is needed")
        if self.actions is not None and len(self.actions) != len(self.item_rows):
            raise DataError(f"{len(self.actions)} actions for {len(self.item_rows)} events; one per event is needed")
        if self.contexts is not None and len(self.contexts) != len(self.item_rows):
            raise DataError(f"{len(self.contexts)} contexts for {len(self.item_rows)} events; one per event is needed")
        for asked in (self.asked_at, self.asked_in):
            if asked is not None and len(asked) != len(self):
                raise DataError(f"{len(asked)} moments asked about for {len(self)} users; one per user is needed")

    def __len__(self) -> int:
        """Return the number of users U."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events per user, `[U]` int64."""
        return np.diff(self.offsets)

    def of(self, user: int) -> NDArray[np.int32]:
        """Item rows of the user at 0-based position `user`, oldest first (a view)."""
        return self.item_rows[self.offsets[user] : self.offsets[user + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        """Yield the item rows of each user in order (views)."""
        return (self.of(user) for user in range(len(self)))

    def take(self, users: NDArray[np.integer]) -> "Sequences":
        """Return the sequences of the given 0-based user positions, in that order (one vectorised gather)."""
        starts, lengths = self.offsets[users], self.lengths[users]
        asked_at = None if self.asked_at is None else self.asked_at[users]
        asked_in = None if self.asked_in is None else self.asked_in[users]
        return self.slices(starts, starts + lengths, asked_at, asked_in)

    def slices(
        self,
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        asked_at: NDArray[np.int64] | None = None,
        asked_in: NDArray[np.int32] | None = None,
    ) -> "Sequences":
        """Return one sequence per pair of absolute event positions `starts[i]:stops[i]` (one vectorised gather)."""
        lengths = stops - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        times = None if self.times is None else np.asarray(self.times[positions])
        actions = None if self.actions is None else np.asarray(self.actions[positions])
        contexts = None if self.contexts is None else self.contexts[positions]
        return Sequences(
            np.asarray(self.item_rows[positions]),
            offsets,
            times,
            asked_at,
            actions,
            contexts=contexts,
            asked_in=asked_in,
        )

    @classmethod
    def from_lists(
        cls, lists: list[list[int]], times: list[list[int]] | None = None, actions: list[list[int]] | None = None
    ) -> "Sequences":
        """Build from plain lists, for tests and for single requests."""
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in lists])]).astype(np.int64)
        flat = np.array([row for rows in lists for row in rows], dtype=np.int32)
        flat_times = None if times is None else np.array([t for ts in times for t in ts], dtype=np.int64)
        flat_actions = None if actions is None else np.array([row for rows in actions for row in rows], dtype=np.int16)
        return cls(flat, offsets, flat_times, actions=flat_actions)
