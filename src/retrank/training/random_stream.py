"""Dropout of a resumed run draws what an uninterrupted one would have drawn."""

from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

RANDOM_STATE_KEY = "random_state"


class RandomStream(pl.Callback):
    """Keep the state of torch's random generator in each checkpoint, and go on with it."""

    def __init__(self) -> None:
        self._state: torch.Tensor | None = None

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state."""
        checkpoint[RANDOM_STATE_KEY] = torch.get_rng_state()

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the state until training starts; Lightning itself may draw numbers before that."""
        self._state = checkpoint[RANDOM_STATE_KEY].cpu()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue where the checkpoint left it."""
        if self._state is not None:
            torch.set_rng_state(self._state)
            self._state = None
