"""The folder of a ranker's run: new, interrupted and to be gone on with, or finished."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrank.contract.errors import ConfigError, InterruptedRun
from retrank.data.store import EventStore
from retrank.training import checkpoint
from retrank.training.ranking.page import PAGE

_PARTS = (
    "run", "past", "past_share", "shown", "visit_hours", "history_length", "sources", "ranker", "optim", "batches",
    "heads", "seed",
)  # fmt: skip
_NAMED = 5


def identity_of(config: Mapping[str, Any], store: EventStore, shape: tuple[int, int]) -> dict[str, Any]:
    """Return what makes two runs the same; `load_ranker` reads the shape of the ranker (features, vectors) there."""
    sizes = dict(zip(("num_features", "vector_width"), shape, strict=True))
    return {"data_hash": store.facts.data_hash, **sizes, **{name: config[name] for name in _PARTS}}


def checkpoint_to_go_on_from(run_dir: Path, identity: dict[str, Any]) -> Path | None:
    """Return the newest checkpoint of a run that was interrupted in this folder, None if it holds none.

    Raises:
        ConfigError: the folder holds a finished run, or one with other settings.
        TrainingError: the checkpoint is damaged.
    """
    if (run_dir / PAGE).is_file():
        raise ConfigError(f"run_dir {run_dir} already holds a finished run; choose another")
    path = run_dir / checkpoint.CHECKPOINTS / checkpoint.LAST
    if not path.is_file():
        return None
    others = checkpoint.differing(checkpoint.read(path)[checkpoint.IDENTITY_KEY], identity, "there")
    if others:
        raise ConfigError(
            f"run_dir {run_dir} already holds a run with other settings: {'; '.join(others[:_NAMED])}; choose another "
            "folder, or those settings to go on with it"
        )
    return path


@contextmanager
def told_how_to_go_on(run_dir: Path) -> Iterator[None]:
    """Say after a signal that the same command goes on in the same folder.

    Raises:
        InterruptedRun: a signal came.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRun(_said(run_dir, signal.SIGINT), signal.SIGINT) from error
    except InterruptedRun as error:
        ended_by = signal.Signals(error.exit_code - 128)
        raise InterruptedRun(_said(run_dir, ended_by), ended_by) from error


def _said(run_dir: Path, ended_by: signal.Signals) -> str:
    return f"interrupted by {ended_by.name}; the same command with run_dir={run_dir} goes on where it was"
