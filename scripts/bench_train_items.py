"""Measure how the time of a training step grows with the catalogue: dense updates, touched rows, torch's SparseAdam.

    python scripts/bench_train_items.py                                   # 10k, 100k and 1M items, some minutes
    python scripts/bench_train_items.py --sizes 10000 --rounds 1 --out -  # a quick look, to the screen

Each round trains every case for some steps, in turn, so that what else the machine does falls on all alike. Ours runs
as `retrank train` runs it: Lightning, clipping, averaged weights. The peer is a bare loop without any of these three.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from retrank.contract.sequences import Sequences
from retrank.data.batches import Batches
from retrank.losses.sampled_softmax import SampledSoftmax
from retrank.models.sasrec import SASRec
from retrank.training.datamodule import HistoryData
from retrank.training.ema import Ema
from retrank.training.optim import AdamW
from retrank.training.retrieval_module import RetrievalModule
from retrank.training.touched_rows import mark_tables
from retrank.training.trainer import TrainerSettings

WIDTH, LENGTH, BATCH, NEGATIVES = 64, 50, 128, 256
SAMPLE = Path("docs/benchmarks/items.json")


class Step(NamedTuple):
    """What one training step took."""

    wall_ms: float
    cpu_ms: float


Case = Callable[[int, Sequences, int], list[Step]]


def histories(num_items: int, steps: int, law: str, seed: int = 0) -> Sequences:
    """Return `steps * 128` histories of 51 events; item frequencies follow Zipf's law or are equal."""
    rng = np.random.default_rng(seed)
    count = steps * BATCH * (LENGTH + 1)
    if law == "uniform":
        item_rows = rng.integers(1, num_items + 1, count)
    else:
        share = np.cumsum(1 / np.arange(1, num_items + 1))
        ranks = np.searchsorted(share, rng.random(count) * share[-1])
        item_rows = rng.permutation(num_items)[ranks] + 1  # popular rows lie anywhere in the table
    return Sequences(item_rows.astype(np.int32), np.arange(steps * BATCH + 1, dtype=np.int64) * (LENGTH + 1))


def parts(num_items: int) -> tuple[SASRec, SampledSoftmax]:
    torch.manual_seed(0)
    model = SASRec(num_items, max_length=LENGTH, width=WIDTH)
    return model, SampledSoftmax(num_negatives=NEGATIVES, temperature=0.05)


class StepClock(pl.Callback):
    """Times whole steps, from batch to batch: data, forward, backward, clipping, update, average and Lightning."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._at = (0.0, 0.0)

    def on_train_start(self, *_: Any) -> None:
        self._at = (time.perf_counter(), time.process_time())

    def on_train_batch_end(self, *_: Any) -> None:
        now = (time.perf_counter(), time.process_time())
        self.steps.append(Step(1e3 * (now[0] - self._at[0]), 1e3 * (now[1] - self._at[1])))
        self._at = now


def ours(recipe: AdamW, threads: int, num_items: int, data: Sequences, steps: int) -> list[Step]:
    """Train as `retrank train` does, without validation and checkpoints."""
    model, loss = parts(num_items)
    clock = StepClock()
    settings = TrainerSettings(max_epochs=1, precision="fp32", accelerator="cpu", threads=threads, progress=False)
    batches = HistoryData(data, partial(Batches, batch_size=BATCH, max_length=LENGTH), seed=0, inputs=model.inputs)
    with tempfile.TemporaryDirectory() as folder:
        trainer = settings.build(Path(folder), [Ema(0.999), clock], [])
        trainer.fit(RetrievalModule(model, loss, recipe), datamodule=batches)
    assert len(clock.steps) == steps
    return clock.steps


def sparse_adam(threads: int, num_items: int, data: Sequences, steps: int) -> list[Step]:
    """Peer: the same model, loss and batches with `torch.optim.SparseAdam` for the table, in a bare loop."""
    torch.set_num_threads(threads)
    model, loss = parts(num_items)
    mark_tables(model, 1)
    table = [model.items.weight]
    rest = [parameter for parameter in model.parameters() if parameter is not table[0]]
    optimizers = [torch.optim.SparseAdam(table, lr=1e-3), torch.optim.AdamW(rest, lr=1e-3)]
    taken, at = [], (time.perf_counter(), time.process_time())
    for batch in Batches(data, batch_size=BATCH, max_length=LENGTH, seed=0):
        queries = model.encode_all(batch.item_rows).flatten(0, 1)[batch.positions]
        value = loss(queries, model, batch.target_rows)
        for optimizer in optimizers:
            optimizer.zero_grad()
        value.backward()
        for optimizer in optimizers:
            optimizer.step()
        now = (time.perf_counter(), time.process_time())
        taken.append(Step(1e3 * (now[0] - at[0]), 1e3 * (now[1] - at[1])))
        at = now
    assert len(taken) == steps
    return taken


def cases(threads: int) -> dict[str, Case]:
    return {
        "dense": partial(ours, AdamW(touched_rows_from=0), threads),
        "touched rows": partial(ours, AdamW(touched_rows_from=1), threads),
        "touched rows, one moment": partial(ours, AdamW(touched_rows_from=1, row_moments="one"), threads),
        "SparseAdam": partial(sparse_adam, threads),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Alternate all cases and sizes; return the medians."""
    steps = arguments.warmup + arguments.steps
    data = {size: histories(size, steps, arguments.law) for size in arguments.sizes}
    taken: dict[tuple[str, int], list[Step]] = defaultdict(list)
    for turn in range(arguments.rounds):
        for name, case in cases(arguments.threads).items():
            for size in arguments.sizes:  # the sizes of a case follow each other: their ratio is what is asked
                taken[name, size] += case(size, data[size], steps)[arguments.warmup :]
        print(f"round {turn + 1} of {arguments.rounds}, load average {os.getloadavg()[0]:.1f}", flush=True)
    rows = [
        {
            "case": name,
            "items": size,
            "wall_ms": float(np.median([step.wall_ms for step in found])),
            "cpu_ms": float(np.median([step.cpu_ms for step in found])),
            "steps": len(found),
            "peak_mb": peak_megabytes(name, size) if arguments.memory else None,
            "table_mb": 4 * (size + 1) * WIDTH / 1e6,
        }
        for (name, size), found in taken.items()
    ]
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "threads": arguments.threads,
        "load": os.getloadavg()[0],
        "law": arguments.law,
        "rows": rows,
    }


def peak_megabytes(name: str, size: int) -> float:
    """Return the peak memory of a fresh process that trains one case for three steps, with all libraries."""
    command = [sys.executable, __file__, "--alone", name, "--sizes", str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def alone(name: str, size: int) -> None:
    cases(1)[name](size, histories(size, 3, "uniform"), 3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the Markdown table; ratios are to the cheapest of our cases at the smallest size."""
    rows = found["rows"]
    smallest = min(row["items"] for row in rows)
    own = [row for row in rows if row["items"] == smallest and row["case"] != "SparseAdam"]
    wall, cpu = (min(row[key] for row in own) for key in ("wall_ms", "cpu_ms"))
    yield "| case | items | step ms | of best at smallest | processor ms | of best at smallest | peak MB | table MB |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: (row["case"], row["items"])):
        peak = "" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}"
        yield (
            f"| {row['case']} | {row['items']:,} | {row['wall_ms']:.0f} | {row['wall_ms'] / wall:.2f} | "
            f"{row['cpu_ms']:.0f} | {row['cpu_ms'] / cpu:.2f} | {peak} | {row['table_mb']:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of items")
    parser.add_argument("--law", choices=["zipf", "uniform"], default="zipf", help="how often items occur")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="timed steps per case and round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="also peak memory, in a process of its own for each case")
    parser.add_argument("--out", default=str(SAMPLE), help="JSON file, - for the screen only")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments.alone, arguments.sizes[0])
        return
    found = measure(arguments)
    print("\n".join(table(found)))
    if arguments.out != "-":
        Path(arguments.out).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
