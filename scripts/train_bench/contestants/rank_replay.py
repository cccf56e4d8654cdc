"""RePlay over given vectors: the steps of its top-items and metrics callbacks on logits, batch by batch.

Its callbacks take logits from a model inside a Lightning trainer; here the matrix product stands for the model,
followed by its own seen-items filter, top-k and metrics builder, as the callbacks apply them.
"""

import sys

import numpy as np
import torch
from channel import Stopwatch, Task, say, wait
from replay.metrics.torch_metrics_builder import TorchMetricsBuilder
from replay.nn.lightning.postprocessor import SeenItemsFilter

TOP, BATCH = 100, 256


def main() -> None:
    task, watch = Task(sys.argv[1]), Stopwatch()
    torch.set_num_threads(task.settings["threads"])
    queries, items = (torch.from_numpy(task.array(name)) for name in ("queries", "items"))
    num_items, rows = len(items) - 1, task.histories("seen")
    longest = max(len(row) for row in rows)
    seen = np.full((len(rows), longest), num_items, dtype=np.int64)  # outside the catalogue = padding
    for place, row in enumerate(rows):
        seen[place, : len(row)] = row - 1
    known, truth = torch.from_numpy(seen), torch.from_numpy(task.array("targets").astype(np.int64) - 1)[:, None]
    filter_seen = SeenItemsFilter(num_items, "seen_ids")
    say(ready=True)
    for _ in range(task.settings["rounds"]):
        watch.start()
        builder = TorchMetricsBuilder(["recall", "ndcg", "map", "mrr"], [10, TOP], num_items)
        builder.reset()
        for start in range(0, len(queries), BATCH):
            part = slice(start, start + BATCH)
            logits = queries[part] @ items[1:].T
            logits = filter_seen.on_validation({"seen_ids": known[part]}, logits)
            best = torch.topk(logits, TOP, dim=1).indices
            builder.add_prediction(best, truth[part])
        watch.report(hr=builder.get_metrics()[f"recall@{TOP}"])
    wait()
    say(finished=True)


if __name__ == "__main__":
    main()
