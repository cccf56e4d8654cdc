"""Why two runs do not answer the same question, and the settings that make them: read from their folders."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from retrank.data.splits import GlobalTemporal, LeaveLastOut

_CONFIG = "config.yaml"
_CHOICES: Mapping[str, type[Any]] = {"global_temporal": GlobalTemporal, "leave_last_out": LeaveLastOut}
_TARGET = "_target_"


def how_to_share_a_split(first: Path, second: Path) -> str:
    """Return which settings of the split differ and what to train with; "" where the folders do not tell.

    Args:
        first, second: folders of runs of `train`, `rank` (whose split is that of its retriever) or `ensemble`.
    """
    one, other = _overrides(first), _overrides(second)
    if not one or not other or one == other:
        return ""
    again = [_differing(mine, theirs) for mine, theirs in ((one, other), (other, one))]
    return (
        f"{first} has {again[0]}, {second} has {again[1]} (experiment=auto chooses one, unless the command line does): "
        f"train {second} again with {again[0]}, or {first} with {again[1]}"
    )


def how_to_share_a_store(first: Path, second: Path) -> str:
    """Return the stores of two runs and what to train with; "" where the folders do not tell."""
    stores = [_config(run).get("store") for run in (first, second)]
    if not all(stores):
        return ""
    return (
        f"{first} has store={stores[0]}, {second} has store={stores[1]}: train both on one; a store that was ingested "
        "anew since is another"
    )


def _differing(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in mine.items() if theirs.get(name) != value) or "split=..."


def _overrides(run: Path) -> dict[str, str]:
    """Return the split of a run as overrides, defaults among them."""
    split = _config(run).get("split") or {}
    for choice, kind in _CHOICES.items():
        if split.get(_TARGET) == f"{kind.__module__}.{kind.__qualname__}":
            known = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
            given = {name: value for name, value in split.items() if name != _TARGET}
            settings = {f"split.{name}": _text(value) for name, value in (known | given).items()}
            return {"split": choice, **settings}
    return {}


def _config(run: Path) -> dict[str, Any]:
    """Return the settings of a run; of a ranker those of its retriever, of an ensemble those of its first member."""
    path = run / _CONFIG
    if not path.is_file():
        return {}
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    beneath = config.get("run") or next(iter(config.get("runs") or ()), None)
    return _config(Path(beneath)) if "split" not in config and beneath else config


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
