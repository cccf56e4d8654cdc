"""What a checkpoint belongs to, written into it, so that a run is never continued with other settings or data."""

from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from retrank.training.checkpoint import IDENTITY_KEY


class Identity(pl.Callback):
    """Write into each checkpoint what it belongs to.

    Args:
        identity: plain values that a resumed run must share, see `checkpoint.identity_of`.
    """

    def __init__(self, identity: dict[str, Any]) -> None:
        self.identity = identity

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the identity."""
        checkpoint[IDENTITY_KEY] = self.identity
