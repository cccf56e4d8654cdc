"""How `retrank train --multirun` ends: all its runs in one table, and the page that `retrank sweep` writes."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from retrank.training.sweep_report import PAGE, write_sweep
from retrank.training.sweep_trials import Setting, Trial, from_folder


def report(runs: Sequence[tuple[Sequence[str], Path]], overrides: Sequence[str]) -> None:
    """Print the table and write `sweep.json` and `sweep.html` beside the runs.

    Args:
        runs: overrides and folder of each run, in the order in which they ran.
        overrides: of the command line, for the record.
    """
    shared = set.intersection(*(set(words) for words, _ in runs))
    trials = [
        _trial(number, [word for word in words if word not in shared], run_dir)
        for number, (words, run_dir) in enumerate(runs)
    ]
    folder = runs[0][1].parent
    details = {"command": " ".join(["retrank train --multirun", *overrides])}
    print(f"\n{write_sweep(folder, folder.name, trials, details)}\n\n{folder / PAGE}")


def _trial(number: int, words: Sequence[str], run_dir: Path) -> Trial:
    params: dict[str, Setting] = {}
    for word in words:
        name, _, value = word.partition("=")
        plain = yaml.safe_load(value)
        params[name.lstrip("+~")] = plain if isinstance(plain, bool | int | float) else value
    return from_folder(number, params, run_dir)
