"""RePlay's SASRec: `replay.nn.sequential.SasRec` with full cross-entropy, fed by its own Parquet module.

The second argument `buckets` wraps the encoder in its length buckets, which its documentation offers for speed.
"""

import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars as pl
import torch
from channel import Stopwatch, Task, left_padded, parts, say, wait
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet.parquet_module import ParquetModule
from replay.nn.lightning.module import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
from replay.nn.sequential.sasrec.model import SasRec
from replay.nn.transform.template.sasrec import make_default_sasrec_transforms

ROWS_PER_BUCKET = 16
EXPANSION = 4


class Pace(lightning.Callback):  # type: ignore[misc]  # not installed beside retrank
    """Waits before each epoch and reports after it."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.watch.start()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.watch.report()


def schema_of(num_items: int, width: int) -> Any:
    source = TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")
    return TensorSchema(
        [
            TensorFeatureInfo(
                "item_id", is_seq=True, feature_type=FeatureType.CATEGORICAL, embedding_dim=width,
                padding_value=num_items, cardinality=num_items, feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[source],
            )
        ]
    )  # fmt: skip


def data_of(task: Task, schema: Any, folder: Path) -> Any:
    """Write the newest `length + 1` events of each history as Parquet, item row r as r - 1; read them in batches."""
    settings = task.settings
    rows = [row - 1 for row in task.histories("train", settings["length"] + 1) if len(row) > 1]
    path = folder / "replay_train.parquet"
    pl.DataFrame({"item_id": [row.astype(np.int64).tolist() for row in rows]}).write_parquet(path)
    metadata = {"train": {"item_id": {"shape": settings["length"] + 1, "padding": settings["num_items"]}}}
    return ParquetModule(
        batch_size=settings["batch_size"], metadata=metadata, transforms=make_default_sasrec_transforms(schema),
        train_path=str(path),
    )  # fmt: skip


@torch.no_grad()
def scores_of(model: Any, task: Task) -> np.ndarray:
    settings = task.settings
    padded = left_padded([row - 1 for row in task.histories("inputs")], settings["length"], settings["num_items"])
    model.eval()
    scores = [
        model(feature_tensors={"item_id": part}, padding_mask=part != settings["num_items"])["logits"]
        for part in parts(torch.from_numpy(padded))
    ]
    return np.pad(torch.cat(scores).numpy(), ((0, 0), (1, 0)), constant_values=-np.inf)


def main() -> None:
    task, buckets = Task(sys.argv[1]), sys.argv[2:] == ["buckets"]
    settings = task.settings
    torch.set_num_threads(settings["threads"])
    lightning.seed_everything(settings["seed"])
    schema = schema_of(settings["num_items"], settings["width"])
    model = SasRec.from_params(
        schema, embedding_dim=settings["width"], num_heads=settings["heads"], num_blocks=settings["blocks"],
        max_sequence_length=settings["length"], dropout=settings["dropout"], hidden_dim=EXPANSION * settings["width"],
    )  # fmt: skip
    weights = sum(parameter.numel() for parameter in model.parameters())
    if buckets:
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, ROWS_PER_BUCKET)
    data = data_of(task, schema, task.folder)
    trainer = lightning.Trainer(
        max_epochs=settings["epochs"], accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Pace()], limit_val_batches=0,
    )  # fmt: skip
    say(ready=True)
    optimizer = OptimizerFactory(learning_rate=settings["learning_rate"])
    trainer.fit(LightningModule(model, optimizer_factory=optimizer), datamodule=data)
    wait()
    task.keep_scores("replay_buckets" if buckets else "replay", scores_of(model, task))
    say(finished=True, parameters=weights)


if __name__ == "__main__":
    main()
