"""Choose the weights that rank best on validation, keep them and the newest, and stop when nothing improves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from retrank.contract.errors import ConfigError, TrainingError
from retrank.training.checkpoint import BEST, LAST
from retrank.training.ema import Ema

MONITORED = "ndcg@10"


class Selection(pl.Callback):
    """After every few epochs: rank the validation cases with the averaged weights, then write checkpoints.

    Args:
        rank: returns metrics of the module's present weights on the validation cases.
        ema: holds the weights to evaluate and to keep.
        directory: where `best.ckpt` and `last.ckpt` are written; each is replaced atomically.
        every: epochs between two validations, >= 1.
        patience: validations without improvement before training stops, >= 1.
    """

    def __init__(
        self,
        rank: Callable[[pl.LightningModule], dict[str, float]],
        ema: Ema,
        directory: Path,
        *,
        every: int,
        patience: int,
    ) -> None:
        if every < 1 or patience < 1:
            raise ConfigError(f"trainer.validate_every is {every} and trainer.patience {patience}; both must be >= 1")
        self.rank, self.ema, self.directory, self.every, self.patience = rank, ema, directory, every, patience
        self.best = {"value": float("-inf"), "epoch": -1, "misses": 0}
        self.history: list[dict[str, float]] = []

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once when the resumed run had already stopped."""
        if self.best["misses"] >= self.patience:
            trainer.should_stop = True

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate if it is time to, log, write checkpoints and decide whether to go on."""
        done = trainer.current_epoch + 1
        if done % self.every and done != trainer.max_epochs:
            return
        _check_finite(pl_module, done)
        with self.ema.applied(pl_module):
            metrics = trainer.strategy.broadcast(self.rank(pl_module) if trainer.is_global_zero else {})
        for name, value in metrics.items():
            pl_module.log(f"val/{name}", value, prog_bar=name == MONITORED, sync_dist=True)
        self.history.append({"epoch": done, "step": trainer.global_step, **metrics})
        improved = metrics[MONITORED] > self.best["value"]
        if improved:
            self.best = {"value": metrics[MONITORED], "epoch": done, "misses": 0}
        else:
            self.best["misses"] += 1
        self._write(trainer, LAST)
        if improved:
            self._write(trainer, BEST)
        if self.best["misses"] >= self.patience:
            trainer.should_stop = True

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best": self.best, "history": self.history}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count of misses and the validation history."""
        self.best, self.history = dict(state_dict["best"]), list(state_dict["history"])

    def _write(self, trainer: pl.Trainer, name: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{name}.tmp"
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            temporary.replace(self.directory / name)


def _check_finite(pl_module: pl.LightningModule, epoch: int) -> None:
    """Refuse to keep weights that the last steps spoiled although their loss was still a number.

    Raises:
        TrainingError: a weight is not finite.
    """
    spoiled = [name for name, value in pl_module.named_parameters() if not torch.isfinite(value).all()]
    if spoiled:
        raise TrainingError(
            f"weights are not finite after epoch {epoch} ({', '.join(spoiled[:3])}): training diverged. The last good "
            "checkpoint is kept; lower optim.learning_rate or set trainer.gradient_clip, train again"
        )
