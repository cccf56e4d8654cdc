"""Training batches cut straight from flat history columns: one vectorised gather each, no workers, no loop over rows.

An epoch is a pure function of (seed, epoch), so a resumed run sees the batches an uninterrupted one would have seen.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.encode import (
    AGES,
    ITEM_ROWS,
    PADDING_ROW,
    InputName,
    encode_windows,
    real_places,
    values_before,
)
from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.data.targets import NextEvent, Targets

_LENGTH_NOISE = 0.1
_TARGETS: Targets = NextEvent()


class Batch(NamedTuple):
    """B histories and what is to be predicted after some of their events (T may be 0).

    Attributes:
        inputs: `[B, L]` int64 arrays by name, left-padded with 0, newest event last, and the context `[B, L, F]`; see
            `contract.encode`.
        positions: `[T]` int64 indices into the flattened `[B * L]` positions that are supervised.
        target_rows: `[T, K]` int64 item rows 1..N, 0 = none; at least one target in each row.
    """

    inputs: dict[InputName, torch.Tensor]
    positions: torch.Tensor
    target_rows: torch.Tensor

    @property
    def item_rows(self) -> torch.Tensor:
        """Return the `[B, L]` int64 item rows among the inputs."""
        return self.inputs[ITEM_ROWS]


class _Windows(NamedTuple):
    """One stretch of events per history: absolute positions `starts[i]:starts[i] + lengths[i]`."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Batches:
    """The batches of one epoch; `at(epoch)` gives those of another.

    A history longer than `max_length` gives a window at a random place, another one in each epoch. Histories of similar
    length share a batch, with some noise so that batches differ between epochs; all batches of an epoch hold about the
    same number of events, so a step weighs events equally however long the histories are.

    Args:
        histories: histories to learn from; those without any target give nothing.
        batch_size: mean number of histories in a batch, >= 1.
        max_length: events the model reads, >= 1.
        seed: with the epoch it fixes order, windows and targets.
        inputs: names of the arrays the model reads.
        targets: what is predicted after an event.
        event_dropout: share of input events hidden from the model, 0 <= share < 1; targets are never hidden.

    Raises:
        ConfigError: a setting is out of range.
        DataError: no history has an event with a target.
    """

    def __init__(
        self,
        histories: Sequences,
        *,
        batch_size: int,
        max_length: int,
        seed: int,
        inputs: Sequence[InputName] = (ITEM_ROWS,),
        targets: Targets = _TARGETS,
        event_dropout: float = 0.0,
    ) -> None:
        if batch_size < 1 or max_length < 1 or not 0 <= event_dropout < 1:
            raise ConfigError(
                f"batches: batch_size {batch_size} and max_length {max_length} must be >= 1, "
                f"event_dropout {event_dropout} in 0 <= share < 1"
            )
        self.histories, self.max_length, self.event_dropout = histories, max_length, event_dropout
        self.seed, self.epoch, self.inputs = seed, 0, tuple(inputs)
        self.chooser = targets.prepare(histories)
        self.stretches = _answerable_stretches(histories, self.chooser.answerable)
        if len(self.stretches.starts) == 0:
            raise DataError(
                f"none of {len(histories)} histories has a target, such as a second event; nothing to learn"
            )
        self.num_batches = -(-len(self.stretches.starts) // batch_size)

    def at(self, epoch: int) -> "Batches":
        """Return the batches of epoch 0, 1, ...; the index of the histories is shared."""
        other = copy.copy(self)
        other.epoch = epoch
        return other

    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch."""
        random = np.random.default_rng([self.seed, self.epoch])
        windows = self._windows(random)
        groups = self._groups(windows.lengths, random)
        return (self._batch(windows, group, random) for group in groups)

    def _windows(self, random: np.random.Generator) -> _Windows:
        """Cut one window of at most `max_length` events that holds a target from each history."""
        lengths = np.minimum(self.stretches.lengths, self.max_length)
        latest = self.stretches.lengths - lengths
        return _Windows(self.stretches.starts + random.integers(0, latest, endpoint=True), lengths)

    def _groups(self, lengths: NDArray[np.int64], random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Group windows of similar length into `num_batches` groups of about equal event counts, in random order."""
        noisy = lengths * random.uniform(1 - _LENGTH_NOISE, 1 + _LENGTH_NOISE, len(lengths))
        order = _ascending(noisy)
        before = np.cumsum(lengths[order]) - lengths[order]
        cuts = np.arange(1, self.num_batches)
        bounds = np.searchsorted(before * self.num_batches // lengths.sum(), cuts)
        bounds = np.maximum.accumulate(bounds - cuts) + cuts  # every batch gets a history, however long others are
        groups = np.split(order, np.clip(bounds, cuts, len(order) - self.num_batches + cuts))
        return [groups[index] for index in random.permutation(len(groups))]

    def _batch(self, windows: _Windows, group: NDArray[np.int64], random: np.random.Generator) -> Batch:
        starts, lengths = windows.starts[group], windows.lengths[group]
        stops = starts + lengths
        asked_at = self.histories.times[stops] if AGES in self.inputs and self.histories.times is not None else None
        # a window ends before a target: an event follows it
        real = real_places(lengths)
        encoded = encode_windows(self.histories, stops, real, self.inputs, asked_at)
        positions, target_rows = self._supervised(stops, real, random)
        if self.event_dropout:
            item_rows = encoded[ITEM_ROWS]
            item_rows[random.random(item_rows.shape) < self.event_dropout] = PADDING_ROW
        return Batch(
            inputs={name: torch.from_numpy(values) for name, values in encoded.items()},
            positions=torch.from_numpy(positions),
            target_rows=torch.from_numpy(target_rows),
        )

    def _supervised(
        self, stops: NDArray[np.int64], real: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return `[T]` places in the flattened `[B, L]` that have a target, and `[T, K]` rows of their targets."""
        if self.chooser.always_next:
            following = values_before(self.histories.item_rows, stops + 1, real.shape[1])
            return np.flatnonzero(real), following[real].astype(np.int64)[:, None]
        positions = np.flatnonzero(real)
        rows, columns = np.divmod(positions, real.shape[1])
        events = stops[rows] - real.shape[1] + columns
        chosen = self.chooser.choose(events, random)  # [T, K]
        supervised = np.flatnonzero((chosen >= 0).any(axis=1))
        chosen = chosen[supervised]
        target_rows = np.where(chosen >= 0, self.histories.item_rows[chosen], PADDING_ROW)
        return positions[supervised], target_rows.astype(np.int64)


def _answerable_stretches(histories: Sequences, answerable: NDArray[np.bool_]) -> _Windows:
    """From the oldest event to the last one with a target, per history that has one."""
    places = np.flatnonzero(answerable)
    owners = np.searchsorted(histories.offsets, places, side="right") - 1
    users, backwards = np.unique(owners[::-1], return_index=True)
    starts = histories.offsets[users]
    return _Windows(starts, places[::-1][backwards] + 1 - starts)


def _ascending(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sort like `np.argsort(kind="stable")`, which is five times slower and only needed where values tie."""
    order = np.argsort(values)
    ordered = values[order]
    return np.argsort(values, kind="stable") if (ordered[1:] == ordered[:-1]).any() else order
