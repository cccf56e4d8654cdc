"""Settings of the training loop and the Lightning trainer they stand for."""

import logging
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from typing_extensions import override

from retrank.contract.errors import ConfigError
from retrank.training.callbacks import EpochLines
from retrank.training.launch.place import ALONE, Place, strategy_of
from retrank.training.precision import choose


@dataclass(frozen=True)
class TrainerSettings:
    """How long and on what a run trains.

    Attributes:
        max_epochs: length of the learning-rate schedule and latest stop, >= 1.
        validate_every: epochs between validations, >= 1.
        patience: validations without a better ndcg@10 before the run stops, >= 1.
        ema_decay: see `Ema`.
        gradient_clip: largest norm of the gradient, > 0; 0 switches clipping off.
        precision: `auto` (bf16 where it is native), `fp32` or `bf16`.
        accelerator: `auto`, `cpu` or `gpu`.
        threads: CPU threads of torch; 0 keeps torch's choice. Results are bit-identical only for an equal number.
        progress: show a progress bar; without it a line is printed after each epoch.
        check_memory: refuse a run whose step needs more than twice the free memory, by a rough count.
        processes: processes that share each batch (`threads` are those of each), >= 1.
        launcher: who starts them: `local` on this host, or `ray`.
    """

    max_epochs: int = 100
    validate_every: int = 1
    patience: int = 10
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int = 2
    progress: bool = True
    check_memory: bool = True
    processes: int = 1
    launcher: Literal["local", "ray"] = "local"

    def __post_init__(self) -> None:
        """Refuse settings that cannot train.

        Raises:
            ConfigError: a value is out of range.
        """
        least = {"max_epochs": 1, "validate_every": 1, "patience": 1, "gradient_clip": 0, "threads": 0, "processes": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"trainer.{name} is {getattr(self, name)}; expected at least {bound}")
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator is gpu and torch finds none; use auto or cpu")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ConfigError(f"trainer.accelerator is {self.accelerator!r}; expected auto, cpu or gpu")
        choose(self.precision)
        if self.launcher not in ("local", "ray"):
            raise ConfigError(f"trainer.launcher is {self.launcher!r}; expected local or ray")
        if self.on_gpus and self.processes > torch.cuda.device_count():
            raise ConfigError(
                f"trainer.processes is {self.processes} and torch finds {torch.cuda.device_count()} GPUs; "
                "each process needs one of its own, or trainer.accelerator=cpu"
            )

    @property
    def on_gpus(self) -> bool:
        """Return whether the processes train on GPUs."""
        return self.accelerator != "cpu" and torch.cuda.is_available()

    def build(
        self, run_dir: Path, callbacks: list[pl.Callback], loggers: list[Logger], place: Place = ALONE
    ) -> pl.Trainer:
        """Return the trainer. Checkpoints and validation are callbacks of ours, so Lightning's are off."""
        _silence_by_design()
        if self.threads:
            torch.set_num_threads(self.threads)
        bar = self.progress and sys.stdout.isatty()  # in a file, a bar is a line for every time it moves
        told: pl.Callback = TQDMProgressBar(refresh_rate=10) if bar else EpochLines(partial(print, flush=True))
        return pl.Trainer(
            default_root_dir=run_dir,
            max_epochs=self.max_epochs,
            accelerator=self.accelerator,
            devices=place.world_size,
            strategy=strategy_of(place),
            precision=choose(self.precision),
            gradient_clip_val=self.gradient_clip or None,
            callbacks=[*callbacks, told],
            logger=loggers,
            reload_dataloaders_every_n_epochs=1,
            enable_checkpointing=False,
            enable_progress_bar=bar,
            enable_model_summary=False,
            log_every_n_steps=1,
            plugins=[_StreamedCheckpoints()],
        )


class _StreamedCheckpoints(TorchCheckpointIO):
    """Write a checkpoint straight to its file: Lightning makes the whole file in memory first, all tables over again.

    Whoever saves gives a temporary name and renames, as `Selection` does.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)


def _silence_by_design() -> None:
    """Mute what Lightning says about choices made on purpose, and about its own use of torch."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.accelerators.cuda").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="`training_step` returned `None`")
    warnings.filterwarnings("ignore", message="GPU available but not used")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
