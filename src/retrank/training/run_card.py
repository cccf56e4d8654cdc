"""The run card: everything needed to say where a number came from."""

import json
import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from retrank import __version__
from retrank.contract.errors import SourceError, TrainingError
from retrank.data.store import EventStore

RUN_CARD = "run_card.json"
FINISHED = "report.html"
"""The file that a run writes last."""
_PACKAGES = ("torch", "pytorch-lightning", "numpy", "hydra-core", "pyarrow")


def build(config: dict[str, Any], store: EventStore, protocol: str, *, created_at: datetime) -> dict[str, Any]:
    """Return what is known before training starts."""
    facts = store.facts
    return {
        "name": config["name"],
        "created_at": created_at.isoformat(),
        "git_commit": git_commit(),
        "seed": config["seed"],
        "protocol": protocol,
        "data": {
            "name": facts.name,
            "data_hash": facts.data_hash,
            "num_users": facts.num_users,
            "num_visitors": facts.num_visitors,
            "num_items": facts.num_items,
            "num_events": facts.num_events,
        },
        "versions": {"retrank": __version__, "python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "config": config,
    }


def write(card: dict[str, Any], run_dir: Path) -> None:
    """Write `run_card.json`, replacing an older one atomically."""
    temporary = run_dir / f".{RUN_CARD}.tmp"
    temporary.write_text(json.dumps(card, indent=2, default=str) + "\n", encoding="utf-8")
    temporary.replace(run_dir / RUN_CARD)


def read(run_dir: Path) -> dict[str, Any]:
    """Return the card of a run; empty when it has none.

    Raises:
        SourceError: the card is not JSON.
    """
    path = run_dir / RUN_CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SourceError(f"{path}: not readable as JSON ({error}); train the run again") from error
    return card


def of_trained(run_dir: Path) -> dict[str, Any]:
    """Return the card of a run that has trained to its end.

    Raises:
        TrainingError: it has not; the message says how to go on with it.
        SourceError: the card is not JSON.
    """
    card = read(run_dir)
    if not card:
        raise TrainingError(
            f"{run_dir / RUN_CARD}: missing; is the run finished? `retrank train` writes it at the end, and goes on "
            f"with an interrupted run by the same settings and ckpt={run_dir}"
        )
    return card


def of_finished(run_dir: Path) -> dict[str, Any]:
    """Return the card of a run that has trained to its end and was evaluated.

    Raises:
        TrainingError: it has not; the message says how to go on with it.
        SourceError: the card is not JSON.
    """
    card = of_trained(run_dir)
    if not (run_dir / FINISHED).is_file():
        raise TrainingError(
            f"{run_dir}: no {FINISHED}, the run ended before its evaluation; `retrank evaluate run={run_dir}` does it"
        )
    return card


def git_commit() -> str | None:
    """Return the commit of the checkout the package lies in; None outside of one. A trailing + marks local changes."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    return f"{commit}+" if commit and _git(root, "status", "--porcelain") else commit


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
