"""RecTools over given vectors: its torch ranker or its implicit ranker, top 100, seen removed, then its hit rate."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import torch
from channel import Stopwatch, Task, say, wait
from rectools.metrics import HitRate, calc_metrics
from rectools.models.rank import Distance, ImplicitRanker, TorchRanker
from scipy import sparse

TOP = 100


def main() -> None:
    task, kind, watch = Task(sys.argv[1]), sys.argv[2], Stopwatch()
    threads = task.settings["threads"]
    torch.set_num_threads(threads)
    queries, items, targets = task.array("queries"), task.array("items"), task.array("targets")
    columns, offsets = task.array("seen_items"), task.array("seen_offsets")
    seen = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, offsets), (len(queries), len(items)))
    users, catalogue = np.arange(len(queries)), np.arange(1, len(items))
    test = pd.DataFrame({"user_id": users, "item_id": targets})

    def rank() -> Any:
        if kind == "torch":
            ranker = TorchRanker(Distance.DOT, "cpu", queries, items)
            return ranker.rank(users, TOP, seen, catalogue)
        return ImplicitRanker(Distance.DOT, queries, items, num_threads=threads).rank(users, TOP, seen, catalogue)

    say(ready=True)
    for _ in range(task.settings["rounds"]):
        watch.start()
        found_users, found_items, _ = rank()
        slates = pd.DataFrame({"user_id": found_users, "item_id": found_items})
        slates["rank"] = slates.groupby("user_id", sort=False).cumcount() + 1
        hits = calc_metrics({"hr": HitRate(k=TOP)}, slates, test)["hr"]
        watch.report(hr=float(hits))
    wait()
    say(finished=True)


if __name__ == "__main__":
    main()
