"""What a run learns from: fresh batches for every epoch out of the training histories of a split."""

from typing import Protocol

import pytorch_lightning as pl
from typing_extensions import override

from retrank.contract.sequences import Sequences
from retrank.data.batches import Batches


class BatchesFactory(Protocol):
    """Cuts histories into the batches of one epoch; a partial of `Batches`, set up by the configuration."""

    def __call__(self, histories: Sequences, *, seed: int, epoch: int) -> Batches:
        """Return the batches of an epoch, a pure function of the arguments."""
        ...


class HistoryData(pl.LightningDataModule):
    """Batches over training histories; the trainer must reload them every epoch.

    Args:
        histories: U training histories.
        make_batches: cuts them.
        seed: with the epoch it fixes the batches.
    """

    def __init__(self, histories: Sequences, make_batches: BatchesFactory, *, seed: int) -> None:
        super().__init__()
        self.histories, self.make_batches, self.seed = histories, make_batches, seed

    @override
    def train_dataloader(self) -> Batches:
        """Return the batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self.make_batches(self.histories, seed=self.seed, epoch=epoch)
