"""The folder every contestant of the training case reads: the same arrays and the same settings for all.

settings.json
train_items.npy train_offsets.npy     U training histories, item rows 1..N
inputs_items.npy inputs_offsets.npy   C histories that end right before the held-out last item
scores_<name>.npy                     written by a contestant: [C, N + 1] float32
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.data.ingest import ingest
from retrank.data.readers.sequences import SequenceFile
from retrank.data.splits import LeaveLastOut, Split
from train_bench.options import Options
from train_bench.world import World, ml1m_like


@dataclass(frozen=True)
class Task:
    """The split that all train on, and the folder in which it lies."""

    folder: Path
    split: Split
    num_items: int

    @property
    def test(self) -> Cases:
        """The last event of every history."""
        return self.split.test

    def targets_per_epoch(self, length: int) -> int:
        """Count what all-position training supervises in one epoch with windows of `length` events."""
        return int(np.clip(self.split.train.lengths - 1, 0, length).sum())


def world_of(options: Options) -> World:
    """Read the sequence file ('user item' per line), or make a world."""
    if options.sequences is None:
        return ml1m_like(*options.world_size)
    store = ingest(SequenceFile(str(options.sequences), name="bench"), options.scratch / "store")
    return World(store.sequences, store.num_items)


def prepare(world: World, folder: Path, settings: dict[str, Any]) -> Task:
    """Split the world (leave-last-out) and write the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    split = LeaveLastOut()(world.histories)
    (folder / "settings.json").write_text(json.dumps(settings | {"num_items": world.num_items}))
    for name, histories in (("train", split.train), ("inputs", split.test.inputs)):
        _save(folder, name, histories)
    return Task(folder, split, world.num_items)


def _save(folder: Path, name: str, histories: Sequences) -> None:
    np.save(folder / f"{name}_items.npy", histories.item_rows)
    np.save(folder / f"{name}_offsets.npy", histories.offsets)
