"""Training batches cut straight from flat history columns: one vectorised gather each, no workers, no loop over rows.

An epoch is a pure function of (seed, epoch), so a resumed run sees the batches an uninterrupted one would have seen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.encode import pad_left
from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences

_LENGTH_NOISE = 0.1


class Batch(NamedTuple):
    """B histories and what followed each of their events.

    Attributes:
        item_rows: `[B, L]` int64, left-padded with 0, newest event last.
        positions: `[T]` int64 indices into the flattened `[B * L]` positions that have a target.
        target_rows: `[T]` int64 item rows 1..N, one per entry of `positions`.
    """

    item_rows: torch.Tensor
    positions: torch.Tensor
    target_rows: torch.Tensor


class Batches:
    """The batches of one epoch.

    A history of n events gives n - 1 pairs (events so far, next event). Longer histories than `max_length` + 1 events
    give a window at a random place, another one in each epoch. Histories of similar length share a batch, with some
    noise so that batches differ between epochs; all batches of an epoch hold about the same number of events, so a
    step weighs events equally however long the histories are.

    Args:
        histories: histories to learn from; those with fewer than 2 events give nothing.
        batch_size: mean number of histories in a batch, >= 1.
        max_length: events the model reads, >= 1.
        seed, epoch: fix order and windows.

    Raises:
        DataError: no history has two events.
    """

    def __init__(self, histories: Sequences, *, batch_size: int, max_length: int, seed: int, epoch: int = 0) -> None:
        self.users = np.flatnonzero(histories.lengths >= 2)
        if len(self.users) == 0:
            raise DataError(f"none of {len(histories)} histories has two events; there is no next event to learn from")
        self.histories, self.max_length, self.seed, self.epoch = histories, max_length, seed, epoch
        self.num_batches = -(-len(self.users) // batch_size)
        self.num_events = int(np.minimum(histories.lengths[self.users] - 1, max_length).sum())

    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch."""
        random = np.random.default_rng([self.seed, self.epoch])
        windows = self._windows(random)
        groups = self._groups(windows.lengths, random)
        return (_batch(windows.take(group)) for group in groups)

    def _windows(self, random: np.random.Generator) -> Sequences:
        """Cut one window of at most `max_length` + 1 events from each history."""
        lengths = self.histories.lengths[self.users]
        sizes = np.minimum(lengths, self.max_length + 1)
        starts = self.histories.offsets[self.users] + random.integers(0, lengths - sizes, endpoint=True)
        return self.histories.slices(starts, starts + sizes)

    def _groups(self, lengths: NDArray[np.int64], random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Group windows of similar length into `num_batches` groups of about equal event counts, in random order."""
        noisy = lengths * random.uniform(1 - _LENGTH_NOISE, 1 + _LENGTH_NOISE, len(lengths))
        order = np.argsort(noisy, kind="stable")
        before = np.cumsum(lengths[order]) - lengths[order]
        cuts = np.arange(1, self.num_batches)
        bounds = np.searchsorted(before * self.num_batches // lengths.sum(), cuts)
        bounds = np.maximum.accumulate(bounds - cuts) + cuts  # every batch gets a history, however long others are
        groups = np.split(order, np.clip(bounds, cuts, len(order) - self.num_batches + cuts))
        return [groups[index] for index in random.permutation(len(groups))]


def _batch(windows: Sequences) -> Batch:
    """Split windows into inputs (all but the newest event) and targets (all but the oldest)."""
    starts, stops = windows.offsets[:-1], windows.offsets[1:]
    item_rows = pad_left(windows.slices(starts, stops - 1), int(windows.lengths.max()) - 1)
    targets = windows.slices(starts + 1, stops).item_rows
    return Batch(
        item_rows=torch.from_numpy(item_rows),
        positions=torch.from_numpy(np.flatnonzero(item_rows)),
        target_rows=torch.from_numpy(targets.astype(np.int64)),
    )
