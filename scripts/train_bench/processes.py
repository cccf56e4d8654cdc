"""Contestants as processes of their own interpreters, working in turns: A, B, C, A, B, C, ...

Only one works at a time; the others wait for a line on stdin. So all see the same machine, minute by minute.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

CONTESTANTS = Path(__file__).parent / "contestants"
_SHOWN_LINES = 12


class ContestantError(Exception):
    """A contestant ended before it was done; the message holds its last words."""


@dataclass(frozen=True)
class Entry:
    """Who takes part: a name, a script below `contestants`, its further arguments, and the interpreter."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    python: Path = field(default_factory=lambda: Path(sys.executable))


class Contestant:
    """A running contestant; leave the `with` block to end it.

    Args:
        entry: who.
        folder: what it works on, its first argument; its stderr goes to `<name>.log` there.
        threads: threads of every library that asks the environment.
    """

    def __init__(self, entry: Entry, folder: Path, threads: int) -> None:
        self.name, self.log = entry.name, folder / f"{entry.name}.log"
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        if entry.python != Path(sys.executable):
            environment.pop("PYTHONPATH", None)
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [str(entry.python), str(CONTESTANTS / entry.script), str(folder), *entry.arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder,
            )  # fmt: skip

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def hear(self) -> dict[str, Any]:
        """Wait for the next thing the contestant says.

        Raises:
            ContestantError: it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = "\n".join(self.log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
            raise ContestantError(f"{self.name} ended early; the end of {self.log}:\n{words}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def tell(self, word: str) -> dict[str, Any]:
        """Give a command and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self.hear()


def take_turns(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let each do one round of work in turn, `rounds` times; return what each said about its rounds."""
    for contestant in contestants:
        contestant.hear()
    said: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            answer = contestant.tell("go")
            said[contestant.name].append(answer)
            print(f"  round {number} {contestant.name}: {answer['seconds']:.2f} s", file=sys.stderr, flush=True)
    return said
