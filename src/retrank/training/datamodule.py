"""What a run learns from: fresh batches for every epoch out of the training histories of a split."""

from typing import Protocol

import pytorch_lightning as pl
from typing_extensions import override

from retrank.contract.encode import InputName
from retrank.contract.sequences import Sequences
from retrank.data.batches import Batches
from retrank.training.launch.place import ALONE, Place
from retrank.training.launch.sharding import Shards


class BatchesFactory(Protocol):
    """Cuts histories into batches; a partial of `Batches`, set up by the configuration."""

    def __call__(self, histories: Sequences, *, seed: int, inputs: tuple[InputName, ...]) -> Batches:
        """Return the batches of the first epoch."""
        ...


class HistoryData(pl.LightningDataModule):
    """Batches over training histories; the trainer must reload them every epoch.

    Args:
        histories: U training histories.
        make_batches: cuts them.
        seed: with the epoch it fixes the batches.
        inputs: names of the arrays the model reads.
        place: of this process among those that share each batch.
    """

    def __init__(
        self,
        histories: Sequences,
        make_batches: BatchesFactory,
        *,
        seed: int,
        inputs: tuple[InputName, ...],
        place: Place = ALONE,
    ) -> None:
        super().__init__()
        self.place = place
        self.batches = make_batches(histories, seed=seed, inputs=inputs)

    @override
    def train_dataloader(self) -> Batches | Shards:
        """Return the batches of the trainer's current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = self.batches.at(epoch)
        return batches if self.place.alone else Shards(batches, self.place)
