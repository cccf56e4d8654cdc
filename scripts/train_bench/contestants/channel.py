"""How a contestant and the runner talk: JSON lines out, one word per command in. Needs nothing but NumPy.

A contestant is a script that runs in an interpreter of its own, with a folder of arrays as its only argument. It says
`ready`, then does one round of work per command `go` and says how long that took, and at `finish` it leaves its scores.
Whatever libraries print goes to stderr.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

Rows = list[NDArray[Any]]


def say(**facts: Any) -> None:
    """Tell the runner something."""
    _answers.write(json.dumps(facts) + "\n")
    _answers.flush()


def wait() -> None:
    """Block until the runner gives the next command; end when it has gone."""
    if not sys.stdin.readline():
        sys.exit("the runner has gone")


class Stopwatch:
    """Wall and processor seconds from `start` to `report`."""

    def start(self) -> None:
        """Wait for the next command, then start."""
        wait()
        self.began = (time.perf_counter(), time.process_time())

    def report(self, **facts: Any) -> None:
        """Say how long it took."""
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        say(seconds=wall, cpu_seconds=cpu, **facts)


class Task:
    """The folder a contestant works on: `settings.json` and flat arrays, see `train_bench.task`."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.settings: dict[str, Any] = json.loads((self.folder / "settings.json").read_text())

    def array(self, name: str) -> NDArray[Any]:
        """Return the array `name`."""
        values: NDArray[Any] = np.load(self.folder / f"{name}.npy")
        return values

    def histories(self, name: str, longest: int | None = None) -> Rows:
        """Return the rows of the ragged array `name`, each cut to its `longest` last entries."""
        items, offsets = self.array(f"{name}_items"), self.array(f"{name}_offsets")
        rows = [items[offsets[row] : offsets[row + 1]] for row in range(len(offsets) - 1)]
        return rows if longest is None else [row[-longest:] for row in rows]

    def keep_scores(self, name: str, scores: NDArray[np.float32]) -> None:
        """Write `[cases, N + 1]` scores for the evaluator; column = item row."""
        np.save(self.folder / f"scores_{name}.npy", scores.astype(np.float32))


def left_padded(rows: Rows, width: int, padding: int) -> NDArray[np.int64]:
    """Stack the last `width` entries of each row, newest last."""
    stacked = np.full((len(rows), width), padding, dtype=np.int64)
    for place, row in enumerate(rows):
        newest = row[-width:]
        stacked[place, width - len(newest) :] = newest
    return stacked


def parts(values: Any, size: int = 256) -> Iterator[Any]:
    """Cut an array or tensor into parts of at most `size` rows."""
    return (values[start : start + size] for start in range(0, len(values), size))
