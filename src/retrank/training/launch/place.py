"""Where a training process stands among its equals, and what Lightning has to know about it."""

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from typing_extensions import override


@dataclass(frozen=True)
class Place:
    """One of `world_size` processes on one host; rank 0 validates, writes checkpoints and logs."""

    rank: int = 0
    world_size: int = 1

    @property
    def alone(self) -> bool:
        """Return whether there is no other process."""
        return self.world_size == 1


ALONE = Place()


class _Placed(ClusterEnvironment):
    """Tells Lightning the place; who started the processes has connected them already."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place

    @property
    @override
    def creates_processes_externally(self) -> bool:
        return True

    @property
    @override
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    @override
    def main_port(self) -> int:
        return 0  # never used: the process group exists

    @staticmethod
    @override
    def detect() -> bool:
        return False

    @override
    def world_size(self) -> int:
        return self.place.world_size

    @override
    def set_world_size(self, size: int) -> None:
        pass

    @override
    def global_rank(self) -> int:
        return self.place.rank

    @override
    def set_global_rank(self, rank: int) -> None:
        pass

    @override
    def local_rank(self) -> int:
        return self.place.rank

    @override
    def node_rank(self) -> int:
        return 0


def strategy_of(place: Place) -> DDPStrategy | str:
    """Return Lightning's strategy: none alone, else averaged gradients over an existing process group."""
    return "auto" if place.alone else DDPStrategy(cluster_environment=_Placed(place))


class OwnRandomness(pl.Callback):
    """Give every process but the first a random stream of its own, for dropout and negatives.

    It starts anew in each epoch, as a function of (seed, rank, epoch), so that a resumed run draws what an
    uninterrupted one would have drawn. The stream of rank 0 is in the checkpoint, as it is without other processes.
    """

    def __init__(self, seed: int, place: Place) -> None:
        self.seed, self.place = seed, place

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the stream of the epoch."""
        if self.place.rank:
            torch.manual_seed(hash((self.seed, self.place.rank, trainer.current_epoch)) % 2**63)
