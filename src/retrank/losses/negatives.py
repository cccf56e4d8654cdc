"""Which items stand for the catalogue in a sampled softmax, and how often each of them was to be expected."""

import math
from typing import NamedTuple

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.losses.frequency import GapFrequency
from retrank.losses.logits import uniform_rows


class Negatives(NamedTuple):
    """Negatives of one step: M item rows, and logarithms of the expected number of times an item is among them."""

    item_rows: torch.Tensor  # [M] int64
    log_counts: torch.Tensor  # [M] float32
    target_log_counts: torch.Tensor  # [T, K] float32, the same for the targets


class NegativePool(nn.Module):
    """Uniform draws, the distinct targets of the batch, or both in one pool.

    Weighting every member of the pool by one over its expected count makes the sum over the pool an unbiased estimate
    of the sum over the catalogue. An item is expected `num_uniform / N` times among the uniform draws and, among the
    targets of the batch, as often as a step contains it; with both, the two add up.

    Args:
        num_uniform: items drawn from the whole catalogue with replacement, >= 0.
        num_in_batch: distinct targets of the batch, at most this many, chosen at random, >= 0. Bounds time and memory.
        frequency_rate: see `GapFrequency`; learned in training mode only.

    Raises:
        ConfigError: a value is out of range, or no negatives at all.

    Source: in-batch: Yi et al. 2019 (RecSys); mixed: Yang et al. 2020 (WWW, "Mixed negative sampling"). Deviation:
    in-batch items are distinct, so an item counts by the probability that a step contains it - which is what the gap
    between sightings measures - not by its share of all events.
    """

    def __init__(self, *, num_uniform: int, num_in_batch: int, frequency_rate: float) -> None:
        super().__init__()
        if num_uniform < 0 or num_in_batch < 0 or num_uniform + num_in_batch < 1:
            raise ConfigError(
                f"num_negatives is {num_uniform} and num_in_batch {num_in_batch}; neither may be negative, and one "
                "must be positive"
            )
        self.num_uniform, self.num_in_batch = num_uniform, num_in_batch
        self.frequency = GapFrequency(frequency_rate) if num_in_batch else None

    def forward(self, targets: torch.Tensor, num_items: int) -> Negatives:
        """Draw the negatives of a step with `[T, K]` int64 target rows (0 = none) over `num_items` items."""
        uniform = uniform_rows(self.num_uniform, num_items, targets.device)
        log_uniform = -math.log(num_items / self.num_uniform) if self.num_uniform else -math.inf
        if self.frequency is None:
            counts = targets.new_full((), log_uniform, dtype=torch.float32)
            return Negatives(uniform, counts.expand(uniform.shape), counts.expand(targets.shape))
        in_batch, share = self._in_batch(self.frequency, targets, num_items)
        rows = torch.cat([uniform, in_batch])
        return Negatives(
            rows, *(_log_counts(self.frequency, items, log_uniform, math.log(share)) for items in (rows, targets))
        )

    def _in_batch(self, frequency: GapFrequency, targets: torch.Tensor, num_items: int) -> tuple[torch.Tensor, float]:
        """Distinct targets of the batch, and the share of them that is kept."""
        frequency.grow(num_items)
        distinct = torch.unique(targets[targets > 0])
        if self.training:
            frequency.observe(distinct)
        if len(distinct) <= self.num_in_batch:
            return distinct, 1.0
        kept = torch.randperm(len(distinct), device=distinct.device)[: self.num_in_batch]
        return distinct[kept], self.num_in_batch / len(distinct)


def _log_counts(frequency: GapFrequency, item_rows: torch.Tensor, log_uniform: float, log_share: float) -> torch.Tensor:
    in_batch = frequency.log_probability(item_rows) + log_share
    return torch.logaddexp(in_batch, torch.full_like(in_batch, log_uniform))
