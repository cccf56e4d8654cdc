"""Dropout of a resumed run draws what an uninterrupted one would have drawn."""

from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

RANDOM_STATE_KEY = "random_state"
DEVICE_RANDOM_STATE_KEY = "device_random_state"


class RandomStream(pl.Callback):
    """Keep the states of torch's random generators in each checkpoint, and go on with them.

    These are the generator of the CPU and, where the module is on a CUDA device, that of this device, from which
    `Dropout` draws there. Of several processes the first one's are kept; the others start anew in each epoch, see
    `OwnRandomness`. A run that goes on with another kind of device has another stream.

    On CPU tests show that a resumed run ends with the weights of an uninterrupted one, to the bit. On CUDA nothing has
    been shown: the one test that draws there has never run on a GPU, and kernels may add up in another order anyway.
    """

    def __init__(self) -> None:
        self._states: dict[str, torch.Tensor] = {}

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states."""
        checkpoint[RANDOM_STATE_KEY] = torch.get_rng_state()
        if pl_module.device.type == "cuda":
            checkpoint[DEVICE_RANDOM_STATE_KEY] = torch.cuda.get_rng_state(pl_module.device)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the states until training starts; Lightning itself may draw numbers before that."""
        kept = (RANDOM_STATE_KEY, DEVICE_RANDOM_STATE_KEY)  # checkpoints of a CPU, and older ones, lack the second
        self._states = {key: checkpoint[key].cpu() for key in kept if key in checkpoint}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue where the checkpoint left them."""
        if RANDOM_STATE_KEY in self._states:
            torch.set_rng_state(self._states[RANDOM_STATE_KEY])
        if DEVICE_RANDOM_STATE_KEY in self._states and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(self._states[DEVICE_RANDOM_STATE_KEY], pl_module.device)
        self._states = {}
