"""Lightning's loop, whose early ends are said in words: memory that ran out, and signals."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from retrank.contract.errors import InterruptedRun
from retrank.training.interrupts import Interrupts
from retrank.training.memory import told_by_settings


def run_loop(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    resume: Path | None,
    interrupts: Interrupts,
    config: Mapping[str, Any],
) -> None:
    """Train until the trainer has had enough.

    Args:
        trainer, module, data: what Lightning needs.
        resume: checkpoint to go on from.
        interrupts: one of the trainer's callbacks; closed at the end.
        config: of the run; names the settings that decide about memory.

    Raises:
        InterruptedRun: a signal came; how to go on is not said, see `told_how_to_go_on`.
        TrainingError: memory ran out, or the loss diverged.
    """
    try:
        with told_by_settings(config):
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as error:  # how Lightning ends after a signal, for SIGTERM even with status 0
        ended_by = signal.SIGTERM if trainer.received_sigterm else signal.SIGINT
        raise InterruptedRun(f"interrupted by {ended_by.name} in epoch {trainer.current_epoch}", ended_by) from error
    finally:
        interrupts.close()
