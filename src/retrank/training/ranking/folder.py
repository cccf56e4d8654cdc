"""The folder of a ranker's run: new, interrupted and to be gone on with, or finished."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrank.contract.errors import ConfigError
from retrank.data.store import EventStore
from retrank.training import checkpoint
from retrank.training.ranking.page import PAGE
from retrank.training.ranking.shown import Shown

_PARTS = ("past_share", "visit_hours", "history_length", "sources", "ranker", "optim", "batches", "heads", "seed")
_NAMED = 5


def identity_of(
    config: Mapping[str, Any], store: EventStore, shape: tuple[int, int], shown: Shown | None
) -> dict[str, Any]:
    """Return what makes two runs the same; `load_ranker` reads the shape of the ranker (features, vectors) there.

    Runs and stores count for what is in them, not for where they lie.

    Args:
        config: of `retrank rank`.
        store: the data.
        shape: features and width of vectors.
        shown: where items were shown; None = not known.

    Raises:
        TrainingError: a run that is named has no best checkpoint.
    """
    return {
        "data_hash": store.facts.data_hash,
        "shown_data_hash": None if shown is None else shown.data_hash,
        "run": checkpoint.digest_of(Path(config["run"])),
        "past": None if config["past"] is None else checkpoint.digest_of(Path(config["past"])),
        **dict(zip(("num_features", "vector_width"), shape, strict=True)),
        **{name: config[name] for name in _PARTS},
    }


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


def how_to_go_on(run_dir: Path) -> str:
    """Return what to do after a signal."""
    return f"the same command with run_dir={run_dir} goes on where it was"
