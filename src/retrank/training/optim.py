"""The optimizer and its learning-rate schedule, counted in steps so that the speed of a machine changes nothing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

from retrank.contract.errors import ConfigError
from retrank.training.row_adamw import RowAdamW, RowMoments


@dataclass(frozen=True)
class AdamW:
    """AdamW with linear warm-up, then decay to `floor` of the peak.

    Attributes:
        learning_rate: peak rate, > 0.
        weight_decay: decoupled decay, applied to matrices only (norms and biases are left alone), >= 0.
        betas: decay of the first and second moment, each in 0..1.
        warmup_steps: steps from 0 to the peak, >= 0; a tenth of all steps at most, so that short runs learn too.
        decay: shape after the warm-up.
        floor: share of the peak that is left at the last step, 0..1.
        touched_rows_from: rows of a table, such as the item table, from which on a step whose loss names its items
            updates the rows it touched and no others, >= 0; 0 = never. Below, a dense update is as fast.
        row_moments: what is remembered of such a table, see `RowAdamW`.

    Source: Loshchilov, Hutter 2017 (arXiv 1711.05101).
    """

    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 200
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    floor: float = 0.0
    touched_rows_from: int = 50_000
    row_moments: RowMoments = "full"

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.warmup_steps < 0 or not 0 <= self.floor <= 1:
            raise ConfigError(f"optim: {self}; rate must be > 0, decay and warm-up >= 0, floor in 0..1")
        if self.decay not in ("cosine", "linear", "constant"):
            raise ConfigError(f"optim.decay is {self.decay!r}; expected cosine, linear or constant")
        if self.touched_rows_from < 0 or self.row_moments not in ("full", "one"):
            raise ConfigError(
                f"optim.touched_rows_from is {self.touched_rows_from} and optim.row_moments {self.row_moments!r}; "
                "expected a number >= 0, and full or one"
            )

    def optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer over all parameters."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        betas = (self.betas[0], self.betas[1])
        return RowAdamW(groups, lr=self.learning_rate, betas=betas, row_moments=self.row_moments)

    def schedule(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LambdaLR:
        """Return the schedule over `total_steps` steps."""
        return LambdaLR(optimizer, lambda step: self.share(step, total_steps))

    def share(self, step: int, total_steps: int) -> float:
        """Share of the peak rate at a step, counted from 0; in 0..1."""
        warmup = min(self.warmup_steps, total_steps // 10)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.decay == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        left = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.floor + (1 - self.floor) * left
