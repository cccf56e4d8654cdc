"""RecTools' SASRec as its documentation trains it: softmax loss, its own data preparator, its own Lightning trainer."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import torch
from channel import Stopwatch, Task, left_padded, parts, say, wait
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel

NAME = "rectools"


class Pace(Callback):
    """Waits before each epoch and reports after it."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.watch.start()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.watch.report()


def dataset_of(task: Task) -> Any:
    items, offsets = task.array("train_items"), task.array("train_offsets")
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    events = pd.DataFrame({"user_id": users, "item_id": items, "weight": 1.0})
    events["datetime"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(items)), unit="s")
    return Dataset.construct(events)


def trainer(epochs: int) -> Trainer:
    return Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Pace()],
    )  # fmt: skip


@torch.no_grad()
def scores_of(model: Any, task: Task) -> np.ndarray:
    """Score every item for every case with the user and item towers of the trained model."""
    settings, ids = task.settings, model.data_preparator.item_id_map
    internal = np.zeros(settings["num_items"] + 1, dtype=np.int64)
    internal[ids.external_ids[1:].astype(np.int64)] = np.arange(1, ids.size)
    rows = [internal[row][internal[row] > 0] for row in task.histories("inputs")]
    padded = torch.from_numpy(left_padded(rows, settings["length"], 0))
    batches = [{"x": part} for part in parts(padded)]
    users, items = model.lightning_model._get_user_item_embeddings(batches, "cpu")
    known = (users @ items.T).numpy()
    scores: np.ndarray = known[:, internal]
    scores[:, internal == 0] = -np.inf
    return scores


def main() -> None:
    task = Task(sys.argv[1])
    settings = task.settings
    torch.set_num_threads(settings["threads"])
    seed_everything(settings["seed"])
    dataset = dataset_of(task)
    model = SASRecModel(
        n_blocks=settings["blocks"], n_heads=settings["heads"], n_factors=settings["width"], loss="softmax",
        session_max_len=settings["length"], batch_size=settings["batch_size"], lr=settings["learning_rate"],
        dropout_rate=settings["dropout"], deterministic=False, get_trainer_func=trainer,
        get_trainer_func_kwargs={"epochs": settings["epochs"]},
    )  # fmt: skip
    say(ready=True)
    model.fit(dataset)
    wait()
    task.keep_scores(NAME, scores_of(model, task))
    weights = sum(parameter.numel() for parameter in model.torch_model.parameters())
    say(finished=True, parameters=weights)


if __name__ == "__main__":
    main()
