"""The trials of a sweep, however they were started: what is known of each, and in which order they stand."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrank.training.report import METRIC, METRICS
from retrank.training.run_card import RUN_CARD

Setting = bool | int | float | str | None
_WIDTH = 8


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        number: from 0, in the order in which they started.
        params: what was varied, by dotted name.
        run_dir: folder of the run.
        reason: why it failed; None for a run that ended well.
        curve: epoch (from 1) and validation NDCG@10 of each validation.
        seconds: wall time of training.
        test: metrics on the test cases; empty when nobody looked at them.
    """

    number: int
    params: Mapping[str, Setting]
    run_dir: Path
    reason: str | None = None
    curve: Sequence[tuple[int, float]] = ()
    seconds: float | None = None
    test: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """Return the best validation NDCG@10, the only figure trials are chosen by; None when there is none."""
        return max((value for _, value in self.curve), default=None) if self.reason is None else None

    @property
    def best_epoch(self) -> int | None:
        """Return the first epoch that reached `value`."""
        return next((epoch for epoch, value in self.curve if value == self.value), None)


def from_folder(number: int, params: Mapping[str, Setting], run_dir: Path, reason: str | None = None) -> Trial:
    """Read what a run left in its folder; a run that failed early leaves little."""
    training = _read(run_dir / RUN_CARD).get("training", {})
    curve = [(int(entry["epoch"]), float(entry[METRIC])) for entry in training.get("validation", [])]
    test = _read(run_dir / METRICS).get("test", {})
    return Trial(number, dict(params), run_dir, reason, curve, training.get("wall_s"), test)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best on validation first; failed trials last, in the order in which they started."""
    return sorted(trials, key=lambda trial: -math.inf if trial.value is None else trial.value, reverse=True)


def varied(trials: Sequence[Trial]) -> list[str]:
    """Return the names of the settings that any trial was given, in the order of their first appearance."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def as_text(trials: Sequence[Trial]) -> str:
    """Lay the trials out as a table, best on validation first."""
    names = varied(trials)
    tested = any(trial.test for trial in trials)
    heads = ["trial", "val " + METRIC, *(["test " + METRIC] if tested else []), "epoch", "seconds", *names]
    rows = [[*_figures(trial, tested), *(shown(trial.params.get(name)) for name in names)] for trial in ranked(trials)]
    widths = [max(_WIDTH, *(len(row[at]) for row in [heads, *rows])) for at in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    reasons = [f"trial {trial.number} failed: {trial.reason}" for trial in ranked(trials) if trial.reason is not None]
    return "\n".join(lines + reasons)


def as_json(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the trials as plain values, best first."""
    return [
        {
            "number": trial.number,
            "params": dict(trial.params),
            "state": "failed" if trial.reason is not None else "complete",
            "reason": trial.reason,
            f"validation_{METRIC}": trial.value,
            "best_epoch": trial.best_epoch,
            "seconds": trial.seconds,
            "validation": [{"epoch": epoch, METRIC: value} for epoch, value in trial.curve],
            "test": dict(trial.test),
            "run_dir": str(trial.run_dir),
        }
        for trial in ranked(trials)
    ]


def shown(setting: Setting) -> str:
    """Return a setting with at most four digits that count."""
    return f"{setting:.4g}" if isinstance(setting, float) else "" if setting is None else str(setting)


def _figures(trial: Trial, tested: bool) -> list[str]:
    value = "failed" if trial.value is None else f"{trial.value:.4f}"
    test = [f"{trial.test[METRIC]:.4f}" if METRIC in trial.test else ""] if tested else []
    seconds = "" if trial.seconds is None else f"{trial.seconds:.0f}"
    return [str(trial.number), value, *test, shown(trial.best_epoch), seconds]


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
