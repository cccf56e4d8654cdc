"""How much more often a candidate is clicked for where it was shown, kept apart from what it is worth."""

import torch
from torch import nn

from retrank.contract.errors import ConfigError

_PACE = 4.0
"""One number per place must keep up with a net of thousands, or the net explains the place by what stood there."""


class PositionBias(nn.Module):
    """A logit per place, added in training and left out afterwards.

    What is learned is the step from each place to the next, so a place takes from its neighbours what it has not seen.
    The first place is the reference (0), so a score without positions means "if it were shown first". An unknown place
    adds nothing either.

    Args:
        num_positions: places told apart, >= 1; later ones count as the last.

    Raises:
        ConfigError: it is less than 1.

    Source: Zhao et al. 2019, YouTube's shallow tower (RecSys). Deviation: place alone, no other context.
    """

    def __init__(self, num_positions: int) -> None:
        super().__init__()
        if num_positions < 1:
            raise ConfigError(f"num_positions is {num_positions}; at least 1 is needed")
        self.num_positions = num_positions
        self.steps = nn.Parameter(torch.zeros(num_positions - 1))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Map `[...]` int64 places 1.. (0 = unknown) to `[...]` float32 logits."""
        table = torch.cat([self.steps.new_zeros(2), _PACE * self.steps.cumsum(0)])
        return table[positions.clamp(max=self.num_positions)]
