"""RecBole's SASRec: one training row per prefix, cross-entropy over all items, its own data set, loader and step.

A whole epoch over a million prefixes takes too long to repeat, so a round is a stretch of time: steps of RecBole's own
`_train_epoch` until `slice_seconds` have passed. Checkpoints are never read back, which newer torch would refuse.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from channel import Stopwatch, Task, left_padded, parts, say, wait
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

NAME = "recbole"
EXPANSION = 4


class Slice:
    """Batches of the training loader until time is up; the next slice goes on where this one ended."""

    shuffle = False

    def __init__(self, loader: Any, seconds: float) -> None:
        self.loader, self.seconds, self.rows = loader, seconds, 0
        self.batches = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        self.rows, end = 0, time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            try:
                batch = next(self.batches)
            except StopIteration:
                self.batches = iter(self.loader)
                continue
            self.rows += len(batch)
            yield batch


def configuration(task: Task) -> Any:
    """Write RecBole's atomic file and return its settings: the sizes of the others, its own batch size."""
    settings, folder = task.settings, task.folder / "recbole_data" / "world"
    folder.mkdir(parents=True, exist_ok=True)
    with Path(folder / "world.inter").open("w") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, row in enumerate(task.histories("train")):
            lines.writelines(f"{user}\t{item}\t{moment}\n" for moment, item in enumerate(row))
    return Config(
        model="SASRec",
        dataset="world",
        config_dict={
            "data_path": str(folder.parent), "checkpoint_dir": str(task.folder / "recbole_saved"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False, "state": "ERROR",
            "MAX_ITEM_LIST_LENGTH": settings["recbole_length"], "train_batch_size": settings["recbole_batch_size"],
            "loss_type": "CE", "train_neg_sample_args": None, "hidden_size": settings["width"],
            "inner_size": EXPANSION * settings["width"], "n_layers": settings["blocks"], "n_heads": settings["heads"],
            "hidden_dropout_prob": settings["dropout"], "attn_dropout_prob": settings["dropout"],
            "learning_rate": settings["learning_rate"], "seed": settings["seed"], "show_progress": False,
            "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": None, "mode": "full"},
        },
    )  # fmt: skip


@torch.no_grad()
def scores_of(model: Any, dataset: Any, task: Task) -> np.ndarray:
    settings, tokens = task.settings, dataset.field2id_token["item_id"]
    internal = np.zeros(settings["num_items"] + 1, dtype=np.int64)
    internal[tokens[1:].astype(np.int64)] = np.arange(1, len(tokens))
    width = settings["recbole_length"]
    rows = [internal[row][internal[row] > 0][-width:] for row in task.histories("inputs")]
    lengths = torch.tensor([len(row) for row in rows])
    padded = left_padded(rows, width, 0)
    for place, row in enumerate(rows):
        padded[place] = np.r_[row, np.zeros(width - len(row), dtype=np.int64)]  # RecBole pads on the right
    model.eval()
    table = model.item_embedding.weight
    batches = zip(parts(torch.from_numpy(padded)), parts(lengths), strict=True)
    known = torch.cat([model(items, length) @ table.T for items, length in batches]).numpy()
    scores = known[:, internal]
    scores[:, internal == 0] = -np.inf
    return scores


def main() -> None:
    task = Task(sys.argv[1])
    settings = task.settings
    torch.set_num_threads(settings["threads"])
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config = configuration(task)
    init_seed(config["seed"], reproducibility=False)
    dataset = create_dataset(config)
    loader = data_preparation(config, dataset)[0]
    model = SASRec(config, dataset)
    trainer, watch = Trainer(config, model), Stopwatch()
    weights = sum(parameter.numel() for parameter in model.parameters())
    say(ready=True)
    batches = Slice(loader, settings["slice_seconds"])
    for epoch in range(settings["epochs"]):
        watch.start()
        trainer._train_epoch(batches, epoch)
        watch.report(targets=batches.rows)
    wait()
    task.keep_scores(NAME, scores_of(model, dataset, task))
    say(finished=True, parameters=weights)


if __name__ == "__main__":
    main()
