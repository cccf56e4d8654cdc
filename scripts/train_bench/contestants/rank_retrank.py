"""retrank's evaluator over given vectors: top 100, seen removed, and all metrics of a report."""

import sys

import numpy as np
import torch
from channel import Stopwatch, Task, say, wait
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.training.evaluator import evaluate
from retrank.training.scorer import ModelScorer, PreparedScorer

NAME = "retrank"


class Vectors(ModelScorer):
    """Scores of given queries, in the order of the cases, by the way of a model."""

    def __init__(self, queries: NDArray[np.float32], items: NDArray[np.float32]) -> None:
        self.given, self.items, self.at = queries, torch.from_numpy(items), 0

    def queries(self, histories: Sequences) -> NDArray[np.float32]:
        self.at += len(histories)
        return self.given[self.at - len(histories) : self.at]

    def prepared(self) -> PreparedScorer:
        return PreparedScorer(self, self.items)


def cases_of(task: Task) -> Cases:
    targets = task.array("targets")
    seen = Sequences(task.array("seen_items"), task.array("seen_offsets"))
    one_each = np.arange(len(targets) + 1)
    return Cases(np.arange(len(targets)), seen, Sequences(targets, one_each))


def main() -> None:
    task, watch = Task(sys.argv[1]), Stopwatch()
    torch.set_num_threads(task.settings["threads"])
    cases = cases_of(task)
    queries, items = task.array("queries"), task.array("items")
    say(ready=True)
    for _ in range(task.settings["rounds"]):
        watch.start()
        evaluation = evaluate(Vectors(queries, items), cases, cases.inputs)
        watch.report(hr=evaluation.metrics["hr@100"], scorer_seconds=evaluation.scorer_seconds)
    wait()
    say(finished=True)


if __name__ == "__main__":
    main()
