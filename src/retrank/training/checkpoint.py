"""Find, check and open the checkpoints of a run, read with `weights_only=True`: nothing in them is executed.

Lightning stays out of here: it takes seconds to import, and evaluating or exporting a run does not need it.
"""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
import yaml

from retrank.config import instantiate
from retrank.contract.errors import TrainingError

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
LAST, BEST = "last.ckpt", "best.ckpt"
IDENTITY_KEY = "identity"
EMA_KEY = "ema"
TEACHERS = "teachers"
_MODEL = "model."
_DIGEST_LENGTH = 16


def identity_of(config: dict[str, Any], *, data_hash: str, num_items: int) -> dict[str, Any]:
    """Return what makes two runs the same: data, split, model, loss, optimizer, batches, seed, and who taught them.

    Raises:
        TrainingError: a teacher has no best checkpoint.
    """
    parts = {name: config[name] for name in ("split", "model", "loss", "optim", "batches", "seed", "item_content")}
    if "context" in config["model"]:
        parts["context"] = config["context"]
    taught_by = {TEACHERS: [digest_of(Path(run)) for run in teachers]} if (teachers := config.get(TEACHERS)) else {}
    return {"data_hash": data_hash, "num_items": num_items, **parts, **taught_by}


def digest_of(run_dir: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the best weights of a run.

    Raises:
        TrainingError: it has none.
    """
    path = run_dir / CHECKPOINTS / BEST
    if not path.is_file():
        raise TrainingError(f"{run_dir}: no {CHECKPOINTS}/{BEST}; expected the folder of a run of `retrank train`")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGEST_LENGTH]


def find(setting: str, run_dir: Path) -> Path:
    """Turn `last`, a run folder or a file into the path of a checkpoint.

    Args:
        setting: `last` is the run in `run_dir` if there is one, else the newest run beside it that has a checkpoint.
        run_dir: folder that a new run would have.

    Raises:
        TrainingError: there is none.
    """
    if setting == "last":
        own, runs = run_dir / CHECKPOINTS / LAST, run_dir.parent
        if own.is_file():
            return own
        found = sorted(runs.glob(f"*/{CHECKPOINTS}/{LAST}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise TrainingError(f"ckpt=last: no run below {runs} has a checkpoint; start one without ckpt")
        return found[-1]
    path = Path(setting)
    path = path / CHECKPOINTS / LAST if path.is_dir() else path
    if not path.is_file():
        raise TrainingError(f"ckpt={setting}: no such checkpoint; expected last, a run folder or a .ckpt file")
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint into memory.

    Raises:
        TrainingError: not a checkpoint of retrank, or damaged.
    """
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such checkpoint; train the run first") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition(". ")[0] or "it is empty"
        raise TrainingError(f"{path}: not a readable checkpoint ({reason}); it is damaged or foreign") from error
    if not isinstance(checkpoint, dict) or IDENTITY_KEY not in checkpoint:
        raise TrainingError(f"{path}: not a checkpoint written by `retrank train`")
    return dict(checkpoint)


def check_resumable(path: Path, identity: dict[str, Any]) -> None:
    """Refuse a checkpoint that belongs to something else.

    Raises:
        TrainingError: data, split, model, loss, optimizer, batches or seed differ; each is named.
    """
    differences = differing(read(path)[IDENTITY_KEY], identity, "in the checkpoint")
    if differences:
        raise TrainingError(
            f"{path}: cannot resume from it: {'; '.join(differences)}. Use the settings it was made with, or name "
            "another run with ckpt=FOLDER"
        )


def differing(saved: dict[str, Any], now: dict[str, Any], where: str) -> list[str]:
    """Name each setting that is not what it was: "model.width is 32 now and 16 in the checkpoint"."""
    before, after = _leaves(saved), _leaves(now)
    return [
        f"{name} is {after.get(name)!r} now and {before.get(name)!r} {where}"
        for name in sorted(after.keys() | before.keys())
        if after.get(name) != before.get(name)
    ]


def _leaves(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def load_model(run_dir: Path | str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Open the best model of a finished or running training run.

    Returns:
        The model with averaged weights in eval mode, and the resolved configuration of the run.

    Raises:
        TrainingError: not a run folder or that of a ranker, no best checkpoint yet, or one that does not fit the
            configuration.
    """
    run_dir = Path(run_dir)
    path = run_dir / CONFIG
    if not path.is_file():
        raise TrainingError(f"{run_dir}: no {CONFIG}; expected the folder of a run of `retrank train`")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "ranker" in config:
        raise TrainingError(
            f"{run_dir}: this is the run of a ranker; its report is {run_dir / 'report.html'}; evaluate its retriever "
            f"with run={config['run']}, export both with run={config['run']} ranker={run_dir}"
        )
    if "model" not in config:
        raise TrainingError(f"{run_dir}: {CONFIG} names no model; expected the folder of a run of `retrank train`")
    checkpoint = read(run_dir / CHECKPOINTS / BEST)
    model: torch.nn.Module = instantiate(config["model"])(num_items=checkpoint[IDENTITY_KEY]["num_items"])
    try:
        model.load_state_dict(averaged_state(checkpoint))
    except RuntimeError as error:
        raise TrainingError(f"{run_dir}: best checkpoint does not fit the model of {CONFIG}: {error}") from error
    return model.eval(), config


def averaged_state(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the state of the model in a checkpoint: averaged weights, and arrays that training never changes."""
    saved = checkpoint["state_dict"].items()
    raw = {name.removeprefix(_MODEL): value for name, value in saved if name.startswith(_MODEL)}
    averaged: dict[str, torch.Tensor] = checkpoint[EMA_KEY]
    return raw | averaged
