"""What a sweep leaves behind: `sweep.json` for programs, `sweep.html` for people, a table for the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from retrank.training import sweep_figures
from retrank.training.report import METRIC, render
from retrank.training.sweep_trials import Trial, as_json, as_text, ranked, shown, varied

TRIALS, PAGE = "sweep.json", "sweep.html"


def write_sweep(folder: Path, title: str, trials: Sequence[Trial], details: Mapping[str, str]) -> str:
    """Write both files, each replaced atomically, and return the table.

    Args:
        folder: of the sweep.
        title: headline, such as the name of the experiment.
        trials: at least one.
        details: further lines "what -> value", such as the command.
    """
    content = {"title": title, "objective": f"validation {METRIC}", "details": dict(details), "trials": as_json(trials)}
    page = render(
        "sweep.html",
        title=title,
        trials=ranked(trials),
        failed=sum(trial.value is None for trial in trials),
        tested=any(trial.test for trial in trials),
        names=varied(trials),
        metric=METRIC,
        shown=shown,
        coordinates=sweep_figures.parallel_coordinates(trials),
        curves=sweep_figures.validation_curves(trials),
        details=details,
    )
    _write(folder / TRIALS, json.dumps(content, indent=2) + "\n")
    _write(folder / PAGE, page)
    return as_text(trials)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
