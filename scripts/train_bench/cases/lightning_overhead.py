"""Case lightning: what the Trainer and its callbacks cost per step, over a bare loop of the same step."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from retrank.data.batches import Batch, Batches
from retrank.losses.softmax import FullSoftmax
from retrank.models.sasrec import SASRec
from retrank.training.callbacks import Throughput
from retrank.training.datamodule import HistoryData
from retrank.training.ema import Ema
from retrank.training.loggers import Loggers
from retrank.training.optim import AdamW
from retrank.training.retrieval_module import RetrievalModule
from retrank.training.trainer import TrainerSettings
from train_bench.options import Options
from train_bench.result import Result, at_most, median, spread
from train_bench.task import world_of
from train_bench.world import World

NAME = "lightning"
WANTED_PERCENT = 5.0
REAL = {"width": 64, "length": 200, "batch_size": 128}
SMALL = {"width": 64, "length": 8, "batch_size": 16}


class StepClock(pl.Callback):
    """Seconds from the end of one step to the end of the next: batch, step, callbacks and all."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def run(options: Options) -> Result:
    """Train one epoch each in turns, with and without Lightning, at two sizes."""
    tiny = options.tiny
    world = world_of(options)
    torch.set_num_threads(options.threads)
    small = [_pair(world, SMALL, options, number) for number in range(options.rounds + 1)][1:]
    real = [_pair(world, SMALL if tiny else REAL, options, number) for number in range(1 if tiny else 3)]
    overhead_ms = median([1e3 * (median(lightning) - median(bare)) for lightning, bare in small])
    step_ms = 1e3 * median([median(bare) for _, bare in real])
    differences = np.concatenate([np.subtract(lightning, bare) for lightning, bare in real])
    rows = [
        ["a small step", *_cells(small), f"{overhead_ms:.2f}", f"{overhead_ms / step_ms:.1%} of the real step"],
        [
            "the real step",
            *_cells(real),
            f"{1e3 * np.median(differences):.2f}",
            f"{1e3 * np.median(differences) / step_ms:.1%}",
        ],
    ]
    about = [
        "`RetrievalModule` under the Trainer with the callbacks and loggers of a run (EMA, throughput, CSV, "
        "TensorBoard; no validation, no checkpoint) against a plain Python loop over the same batches with the same "
        "optimizer, schedule, gradient clipping and moving average. Median seconds from the end of one step to the "
        f"end of the next, one epoch each in turn. The real step is ml-1m's ({REAL['batch_size']} histories of "
        f"{REAL['length']} events, width {REAL['width']}); what Lightning costs hardly depends on the size, so it is "
        f"measured beside a small step ({SMALL['batch_size']} of {SMALL['length']}), where a busy machine cannot "
        "hide it, and related to the real one.",
    ]
    goal = at_most(
        f"overhead below {WANTED_PERCENT:g} % of a real step", 100 * overhead_ms / step_ms, WANTED_PERCENT, " %"
    )
    measured = {"overhead_ms": overhead_ms, "step_ms": step_ms, "paired_ms": float(1e3 * np.median(differences))}
    columns = ["step", "with Lightning, ms", "bare loop, ms", "overhead, ms", "share"]
    return Result(NAME, "Lightning's own cost", about, columns, rows, [goal], measured)


def _cells(pairs: list[tuple[list[float], list[float]]]) -> list[str]:
    return [spread([1e3 * median(pair[side]) for pair in pairs], 2) for side in (0, 1)]


def _pair(world: World, size: dict[str, int], options: Options, number: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each step of one epoch under Lightning, and of the same epoch in a bare loop."""
    limit = 20 if options.tiny else 47 if size is REAL else 250

    def batches() -> Batches:
        return Batches(world.histories, batch_size=size["batch_size"], max_length=size["length"], seed=number)

    return _under_lightning(_module(world, size), batches(), options, limit), _bare(
        _module(world, size), batches(), limit
    )


def _module(world: World, size: dict[str, int]) -> RetrievalModule:
    torch.manual_seed(1)
    model = SASRec(world.num_items, max_length=size["length"], width=size["width"], flavour="classic", similarity="dot")
    return RetrievalModule(model, FullSoftmax(), AdamW())


def _under_lightning(module: RetrievalModule, batches: Batches, options: Options, limit: int) -> list[float]:
    clock, folder = StepClock(), options.scratch / NAME
    settings = TrainerSettings(
        max_epochs=1, precision="fp32", accelerator="cpu", threads=options.threads, progress=False
    )
    trainer = settings.build(folder, [Ema(), Throughput(), clock], Loggers().build(Path(folder)))
    data = HistoryData(batches.histories, lambda *_, **__: batches, seed=1, inputs=batches.inputs)
    trainer.limit_train_batches = min(limit, len(batches))
    trainer.fit(module, datamodule=data)
    return list(np.diff(clock.ends))


def _bare(module: RetrievalModule, batches: Batches, limit: int) -> list[float]:
    model, loss, recipe = module.model, module.loss, AdamW()
    assert isinstance(model, torch.nn.Module)
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = recipe.optimizer(parameters)
    schedule = recipe.schedule(optimizer, len(batches))
    model.train()
    ends = [time.perf_counter()]
    for _, batch in zip(range(limit), batches, strict=False):
        _step(model, loss, batch, optimizer)
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [*parameters], 0.01)
        ends.append(time.perf_counter())
    return list(np.diff(ends))


def _step(model: Any, loss: torch.nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    queries = model.encode_all(batch.item_rows).flatten(0, 1)[batch.positions]
    loss(queries, model, batch.target_rows).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
