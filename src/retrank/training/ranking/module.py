"""The Lightning side of a ranker, and its data."""

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from typing_extensions import override

from retrank.contract.errors import ConfigError, TrainingError
from retrank.losses.multitask import MultitaskLoss
from retrank.models.ranker import Ranker, RankerInputs
from retrank.training.ranking.table import RankingBatch, RankingTable
from retrank.training.retrieval_module import OptimizerRecipe


class RankingModule(pl.LightningModule):
    """One training step: answer for every candidate of some requests, compare with what happened.

    Args:
        model: the ranker.
        loss: over all its heads.
        recipe: optimizer and schedule.
    """

    def __init__(self, model: Ranker, loss: MultitaskLoss, recipe: OptimizerRecipe) -> None:
        super().__init__()
        self.model, self.loss, self.recipe = model, loss, recipe

    @override
    def training_step(self, batch: RankingBatch, batch_idx: int) -> torch.Tensor:
        """Return the loss of one batch.

        Raises:
            TrainingError: the loss is not finite.
        """
        raw = self.model.raw(RankerInputs(*batch[:6]), batch.positions)
        loss: torch.Tensor = self.loss(raw, batch.labels, batch.real, batch.weights)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}): training diverged. "
                "The last good checkpoint is kept; lower optim.learning_rate or raise optim.warmup_steps, train again"
            )
        size = len(batch.real)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        return loss

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and a schedule that moves every step."""
        optimizer = self.recipe.optimizer(self.parameters())
        schedule = self.recipe.schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_batches(batch_size: int, max_candidates: int) -> None:
    """Refuse sizes that hold no request, or nothing to tell apart.

    Raises:
        ConfigError: a size is out of range.
    """
    if batch_size < 1 or max_candidates < 2:
        raise ConfigError(f"batches: batch_size {batch_size} must be >= 1 and max_candidates {max_candidates} >= 2")


class RankingBatches:
    """The batches of one epoch, in an order fixed by seed and epoch.

    Args:
        table: labelled candidates.
        batch_size: requests per step, >= 1.
        max_candidates: candidates per request, >= 2; all labelled ones and a random part of the others.
        seed: with the epoch it fixes order and choice.
        epoch: counted from 0.
    """

    def __init__(self, table: RankingTable, *, batch_size: int, max_candidates: int, seed: int, epoch: int = 0) -> None:
        check_batches(batch_size, max_candidates)
        self.table, self.batch_size, self.max_candidates = table, batch_size, max_candidates
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return (len(self.table) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[RankingBatch]:
        """Yield the batches."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.table))
        for start in range(0, len(order), self.batch_size):
            requests = order[start : start + self.batch_size]
            yield self.table.batch(requests, max_candidates=self.max_candidates, random=random)


class RankingData(pl.LightningDataModule):
    """Fresh batches for every epoch; the trainer must reload them."""

    def __init__(self, table: RankingTable, *, batch_size: int, max_candidates: int, seed: int) -> None:
        super().__init__()
        self.table, self.settings = table, {"batch_size": batch_size, "max_candidates": max_candidates, "seed": seed}
        RankingBatches(table, **self.settings)  # refuses bad settings before anything else happens

    @override
    def train_dataloader(self) -> RankingBatches:
        """Return the batches of the trainer's current epoch."""
        return RankingBatches(self.table, **self.settings, epoch=self.trainer.current_epoch if self.trainer else 0)
