"""Case loader: batches of training windows from retrank's `Batches` against a torch DataLoader doing the same."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from retrank.contract.encode import ITEM_ROWS
from retrank.contract.sequences import Sequences
from retrank.data.batches import Batch, Batches
from train_bench.options import Options
from train_bench.result import Result, at_least, median, spread
from train_bench.task import world_of

NAME = "loader"
LENGTH, BATCH = 200, 128
WANTED = 20.0
_SECONDS_PER_ROUND = 2.0

Pair = tuple[torch.Tensor, torch.Tensor]


class Windows(Dataset[Pair]):
    """The map-style data set one would write: a random window, left-padded, and the item after each event."""

    def __init__(self, histories: Sequences, length: int, seed: int) -> None:
        self.rows = [row for row in histories if len(row) > 1]
        self.length, self.random = length, np.random.default_rng(seed)

    def __len__(self) -> int:
        """Return the number of histories with a target."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Pair:
        """Return `[L]` int64 item rows and `[L]` int64 targets."""
        row = self.rows[index]
        size = min(len(row) - 1, self.length)
        start = self.random.integers(0, len(row) - size)
        inputs, targets = (np.zeros(self.length, dtype=np.int64) for _ in range(2))
        inputs[-size:] = row[start : start + size]
        targets[-size:] = row[start + 1 : start + size + 1]
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def together(pairs: list[Pair]) -> Batch:
    """Stack windows and leave out padding, which every step needs: the same three tensors as retrank's."""
    inputs, targets = (torch.stack(column) for column in zip(*pairs, strict=True))
    positions = inputs.flatten().nonzero()[:, 0]
    return Batch({ITEM_ROWS: inputs}, positions, targets.flatten()[positions, None])


def run(options: Options) -> Result:
    """Read whole epochs in turns."""
    world = world_of(options)
    torch.set_num_threads(options.threads)
    ours = Batches(world.histories, batch_size=BATCH, max_length=LENGTH, seed=1)
    windows = Windows(world.histories, LENGTH, seed=1)
    readers: dict[str, Callable[[int], Iterable[Any]]] = {"retrank": ours.at}
    for workers in (0, 2):
        # workers live on between epochs, as one would set it for speed
        loader = DataLoader(
            windows, BATCH, shuffle=True, collate_fn=together, num_workers=workers, persistent_workers=workers > 0
        )
        readers[f"DataLoader, {workers} workers"] = partial(_every_epoch, loader)
    seconds = 0.05 if options.tiny else _SECONDS_PER_ROUND
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    for _ in range(options.rounds + 1):
        for name, epoch in readers.items():
            rounds[name].append(_read(epoch, seconds))
    timed = {name: found[1:] for name, found in rounds.items()}
    speed = {name: [found["events"] / found["seconds"] for found in kept] for name, kept in timed.items()}
    batches = {name: [found["batches"] / found["seconds"] for found in kept] for name, kept in timed.items()}
    best = max(median(values) for name, values in speed.items() if name != "retrank")
    rows = [
        [
            name,
            spread(batches[name], 0),
            f"{median(values) / 1e6:.2f}",
            f"{median(speed['retrank']) / median(values):.1f}x",
        ]
        for name, values in speed.items()
    ]
    about = [
        f"Batches of {BATCH} windows of at most {LENGTH} events, left-padded, the places of real events and the item "
        "after each: the same three tensors from all; real events counted, padding not. Whole epochs in turn, nothing "
        "else runs. retrank's batches hold "
        "windows of similar length, so they are narrower and cheaper; the DataLoader pads all to full length, as "
        "its batches are drawn at random. It keeps its workers between epochs.",
    ]
    goal = at_least(
        f">= {WANTED:g}x torch DataLoader, the faster of 0 and 2 workers, events/s",
        median(speed["retrank"]) / best,
        WANTED,
    )
    columns = ["loader", "batches/s", "M events/s", "retrank is faster by"]
    return Result(NAME, "The loader alone", about, columns, rows, [goal], {"rounds": timed})


def _every_epoch(loader: Iterable[Any], _: int) -> Iterable[Any]:
    """Return the loader: it shuffles anew by itself."""
    return loader


def _read(epoch: Callable[[int], Iterable[Any]], seconds: float) -> dict[str, float]:
    """Read whole epochs until at least `seconds` have passed."""
    batches, events, number, started = 0, 0, 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for batch in epoch(number):
            batches += 1
            events += len(batch.positions)
        number += 1
    return {"batches": batches, "events": events, "seconds": time.perf_counter() - started}
