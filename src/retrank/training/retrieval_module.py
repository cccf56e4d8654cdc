"""The Lightning side of a retrieval model: any `QueryEncoder` with any loss over (queries, items, targets)."""

from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from retrank.contract.encode import InputName
from retrank.contract.errors import TrainingError
from retrank.data.batches import Batch
from retrank.models.protocols import QueryEncoder
from retrank.training.launch.sharding import idle_loss, share_of_step
from retrank.training.touched_rows import clip_gradients, coalesce_gradients, mark_tables


class OptimizerRecipe(Protocol):
    """Makes an optimizer and a schedule over steps."""

    @property
    def touched_rows_from(self) -> int:
        """Return from how many rows on the gradient of a table names the rows a step touched; 0 = never."""
        ...

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        """Return the optimizer over all parameters."""
        ...

    def schedule(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
        """Return the schedule over `total_steps` steps."""
        ...


class RetrievalModule(pl.LightningModule):
    """One training step: encode every position, score against the catalogue, drop padding before the output layer.

    Args:
        model: query encoder with item vectors.
        loss: called with queries `[T, D]`, the model for its item vectors, and target rows `[T, K]`; returns a scalar.
        recipe: optimizer and schedule.
    """

    def __init__(self, model: QueryEncoder, loss: torch.nn.Module, recipe: OptimizerRecipe) -> None:
        super().__init__()
        self.model, self.loss, self.recipe = model, loss, recipe
        mark_tables(self, recipe.touched_rows_from)

    @property
    def inputs(self) -> tuple[InputName, ...]:
        """Return the names of the arrays a batch must hold."""
        return self.model.inputs

    def loss_of(self, queries: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the scalar loss of `[T, D]` queries at the supervised positions of a batch."""
        loss: torch.Tensor = self.loss(queries, self.model, batch.target_rows)
        return loss

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        """Return the loss of one batch; None skips a batch whose targets were all left out by chance.

        Raises:
            TrainingError: the loss is not finite.
        """
        share = share_of_step(len(batch.positions), self)
        if len(batch.positions) == 0:
            return None if self.trainer.world_size == 1 else idle_loss(self)
        inputs = {name: batch.inputs[name] for name in self.model.inputs}  # a teacher may read more
        queries = self.model.encode_all(**inputs).flatten(0, 1)[batch.positions]  # [T, D]
        loss = self.loss_of(queries, batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}): training diverged. "
                "The last good checkpoint is kept; lower optim.learning_rate or raise optim.warmup_steps, train again"
            )
        # Processes average the logged weights in whole numbers; a multiple of their number loses nothing.
        num_targets = int((batch.target_rows > 0).sum()) * self.trainer.world_size
        self.log(
            "train/loss",
            loss.detach(),
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=num_targets,
        )
        return loss * share

    @override
    def on_after_backward(self) -> None:
        """Name each touched row once, for all who look at gradients."""
        coalesce_gradients(self.parameters())

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm, over touched rows too, which Lightning's own clipping cannot."""
        if gradient_clip_val:
            clip_gradients(self.parameters(), gradient_clip_val)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and a schedule that moves every step."""
        optimizer = self.recipe.optimizer(self.parameters())
        schedule = self.recipe.schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
