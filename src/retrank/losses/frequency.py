"""How often an item is among the targets of a step, learned from the steps themselves; used by in-batch negatives."""

from typing import Any

import torch
from torch import nn

from retrank.contract.errors import ConfigError


class GapFrequency(nn.Module):
    """Probability that a step contains an item = 1 / mean number of steps from one sighting to the next.

    Twelve bytes per item, in `state_dict`; a resumed run continues bit by bit. A step touches the rows it contains
    and no others. The buffers take the size of the catalogue at the first step, or that of the state loaded.

    Args:
        rate: weight of a new gap once `1 / rate` gaps are known, 0 < rate <= 1. The estimate forgets after about
            `1 / rate` sightings and its logarithm then has a standard deviation near `sqrt(rate / 2)`.

    Raises:
        ConfigError: rate is out of range.

    Source: Yi et al. 2019, algorithm 2 (RecSys, "Sampling-bias-corrected neural modeling"). Deviations: one cell per
    item instead of hashed ones, so no collisions; the k-th gap of an item weighs max(rate, 1 / k), a plain mean at
    first, so that no guess of a first gap lingers. The mean includes the gap that ends now, which makes an item seen
    with probability p count `1 - (1 - p)^t` times on average after t steps when it is weighted by its mean gap.
    """

    steps: torch.Tensor
    last_step: torch.Tensor
    sightings: torch.Tensor
    gap: torch.Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        if not 0 < rate <= 1:
            raise ConfigError(f"frequency_rate is {rate}; it must be in 0 < frequency_rate <= 1")
        self.rate = rate
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last_step", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("sightings", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("gap", torch.zeros(0))
        self.register_load_state_dict_pre_hook(_take_size)  # type: ignore[no-untyped-call]  # torch

    def grow(self, num_items: int) -> None:
        """Make room for item rows up to `num_items`; what is known stays."""
        known = len(self.gap)
        if known <= num_items:
            for buffer in (self.last_step, self.sightings, self.gap):
                buffer.resize_(num_items + 1)[known:] = 0

    @torch.no_grad()
    def observe(self, item_rows: torch.Tensor) -> None:
        """Count one step that contains the distinct `[M]` int64 item rows; `grow` comes first."""
        self.steps += 1
        sightings = self.sightings[item_rows] + 1
        since = (self.steps - self.last_step[item_rows]).float()
        weight = sightings.reciprocal().clamp_(min=self.rate)
        self.gap[item_rows] = torch.lerp(self.gap[item_rows], since, weight)
        self.sightings[item_rows] = sightings
        self.last_step[item_rows] = self.steps.to(torch.int32)

    def log_probability(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Return float32 log-probabilities, <= 0, for int64 item rows of any shape.

        An item never seen counts as seen in the next step.
        """
        gap = torch.where(self.sightings[item_rows] > 0, self.gap[item_rows], self.steps + 1.0)
        return -gap.log()


def _take_size(module: GapFrequency, state: dict[str, Any], prefix: str, *_: object) -> None:
    saved = state.get(f"{prefix}gap")
    if saved is not None:
        for buffer in (module.last_step, module.sightings, module.gap):
            buffer.resize_(len(saved))
