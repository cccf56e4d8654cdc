"""Exponential moving average of the weights: what is evaluated, kept and served; the raw weights keep training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from retrank.contract.errors import ConfigError
from retrank.training.checkpoint import EMA_KEY
from retrank.training.row_clock import Decays, RowClock
from retrank.training.touched_rows import marked_tables


class Ema(pl.Callback):
    """Average the weights of `module.model` after every step and store them in the checkpoint under "ema".

    The first steps count more, `min(decay, (1 + step) / (10 + step))`, so that a short run is not dragged down by its
    random start. Tables with gradients of touched rows are averaged row by row when a row is about to change, and as a
    whole when the average is read (`RowClock`).

    Args:
        decay: share of the old average kept at each step, 0 <= decay < 1; 0 means no averaging.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema decay is {decay}; it must be in 0 <= decay < 1")
        self.decays = Decays(decay)
        self.average: dict[str, torch.Tensor] = {}
        self._clocks: dict[str, RowClock] = {}

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the current weights unless a checkpoint brought an average."""
        if not self.average:
            self.average = {name: value.detach().clone() for name, value in _weights(pl_module).items()}
        device = pl_module.device
        self.average = {name: value.to(device) for name, value in self.average.items()}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the step that the averages of tables are of."""
        assert isinstance(pl_module.model, torch.nn.Module)
        self._clocks = {
            name: RowClock(len(self.average[name]), trainer.global_step, self.decays, pl_module.device)
            for name in marked_tables(pl_module.model)
        }

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Bring the rows that are about to change up to date."""
        weights = _weights(pl_module)
        for name, clock in self._clocks.items():
            gradient = weights[name].grad
            if gradient is not None:
                rows = gradient._indices()[0] if gradient.is_sparse else None
                clock.catch_up(self.average[name], weights[name], trainer.global_step, rows)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the new weights."""
        current = {name: value for name, value in _weights(pl_module).items() if name not in self._clocks}
        share = 1 - self.decays.at(trainer.global_step)
        with torch.no_grad():
            torch._foreach_lerp_([self.average[name] for name in current], list(current.values()), share)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the average to the checkpoint."""
        self._catch_up(pl_module)
        checkpoint[EMA_KEY] = self.average

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average from the checkpoint."""
        self.average = dict(checkpoint[EMA_KEY])

    @contextmanager
    def applied(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Let the module hold the averaged weights for a while; the two change places, so nothing is copied."""
        self._catch_up(pl_module)
        self._swap(pl_module)
        try:
            yield
        finally:
            self._swap(pl_module)

    def _catch_up(self, pl_module: pl.LightningModule) -> None:
        weights = _weights(pl_module)
        for name, clock in self._clocks.items():
            clock.catch_up(self.average[name], weights[name], pl_module.global_step)

    def _swap(self, pl_module: pl.LightningModule) -> None:
        for name, value in _weights(pl_module).items():
            value.data, self.average[name] = self.average[name], value.data


def _weights(pl_module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
    model = pl_module.model
    assert isinstance(model, torch.nn.Module)
    return dict(model.named_parameters())
