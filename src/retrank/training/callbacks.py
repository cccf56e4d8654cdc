"""Progress while a run trains: real events per second, wall and processor time."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from retrank.data.batches import Batch


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
