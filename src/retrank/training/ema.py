"""Exponential moving average of the weights: what is evaluated, kept and served; the raw weights keep training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from retrank.contract.errors import ConfigError
from retrank.training.checkpoint import EMA_KEY


class Ema(pl.Callback):
    """Average the weights of `module.model` after every step and store them in the checkpoint under "ema".

    The first steps count more, `min(decay, (1 + step) / (10 + step))`, so that a short run is not dragged down by its
    random start.

    Args:
        decay: share of the old average kept at each step, 0 <= decay < 1; 0 means no averaging.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema decay is {decay}; it must be in 0 <= decay < 1")
        self.decay = decay
        self.average: dict[str, torch.Tensor] = {}

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the current weights unless a checkpoint brought an average."""
        if not self.average:
            self.average = {name: value.detach().clone() for name, value in _weights(pl_module).items()}
        device = pl_module.device
        self.average = {name: value.to(device) for name, value in self.average.items()}

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the new weights."""
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            current = _weights(pl_module)
            torch._foreach_lerp_([self.average[name] for name in current], list(current.values()), 1 - decay)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the average to the checkpoint."""
        checkpoint[EMA_KEY] = self.average

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average from the checkpoint."""
        self.average = {name: value.clone() for name, value in checkpoint[EMA_KEY].items()}

    @contextmanager
    def applied(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Let the module hold the averaged weights for a while."""
        current = _weights(pl_module)
        raw = {name: value.detach().clone() for name, value in current.items()}
        _copy(self.average, current)
        try:
            yield
        finally:
            _copy(raw, current)


def _weights(pl_module: pl.LightningModule) -> dict[str, torch.Tensor]:
    model = pl_module.model
    assert isinstance(model, torch.nn.Module)
    return dict(model.named_parameters())


@torch.no_grad()
def _copy(source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
