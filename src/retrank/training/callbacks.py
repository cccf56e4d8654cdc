"""Progress while a run trains: real events per second, wall and processor time, a line per epoch."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from retrank.data.batches import Batch

_TOLD = {"train/loss": "loss", "val/ndcg@10": "validation NDCG@10"}


class EpochLines(pl.Callback):
    """Says after every epoch how far the run is, where no progress bar does.

    Args:
        say: told a line at a time, in the first of several processes alone.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self._began_at = say, 0.0

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._began_at = time.perf_counter()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say loss and, after a validation, its metric; must come behind who validates."""
        known = {name: float(value) for name, value in trainer.callback_metrics.items()}
        told = [f"{label} {known[name]:.4f}" for name, label in _TOLD.items() if name in known]
        took = f"{time.perf_counter() - self._began_at:.1f} s"
        if trainer.is_global_zero:
            self.say(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {', '.join([*told, took])}")


class Throughput(pl.Callback):
    """Count input events and time; show events per second in the progress bar.

    Wall time grows when other programs use the machine, processor time hardly does: both are kept, also over resumes.
    """

    def __init__(self) -> None:
        self.totals = {"events": 0.0, "steps": 0.0, "wall_s": 0.0, "cpu_s": 0.0}
        self._at = (0.0, 0.0)
        self._epoch = (0.0, 0.0)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self._at = (time.perf_counter(), time.process_time())

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch = (time.perf_counter(), 0.0)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the events of a step."""
        started, events = self._epoch
        events += int((batch.item_rows > 0).sum())
        self._epoch = (started, events)
        self.totals["steps"] += 1
        pl_module.log("events/s", events / (time.perf_counter() - started), prog_bar=True, logger=False)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the totals over all processes; later callbacks (which write checkpoints) see them up to date."""
        wall, cpu = time.perf_counter(), time.process_time()
        counted = torch.tensor([self._epoch[1], cpu - self._at[1]], dtype=torch.float64)
        events, cpu_s = trainer.strategy.reduce(counted, reduce_op="sum").tolist()
        self.totals["events"] += events
        self.totals["wall_s"] += wall - self._at[0]
        self.totals["cpu_s"] += cpu_s
        self._at = (wall, cpu)
        spent = {"time/wall_s": self.totals["wall_s"], "time/cpu_s": self.totals["cpu_s"]}
        pl_module.log_dict(spent, sync_dist=True)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the totals."""
        return {"totals": self.totals}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the totals."""
        self.totals = dict(state_dict["totals"])
