"""Case seq_small: time per epoch of a small SASRec with full softmax, retrank against other libraries."""

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.training.evaluator import evaluate
from retrank.training.precision import choose
from train_bench.options import Options
from train_bench.processes import Contestant, Entry, take_turns
from train_bench.result import Goal, Result, at_least, median, spread
from train_bench.task import Task, prepare, world_of

NAME = "seq_small"
OURS = "retrank_sasrec_classic_auto"
SETTINGS = {
    "width": 64, "length": 200, "blocks": 2, "heads": 2, "dropout": 0.2, "batch_size": 128, "learning_rate": 1e-3,
    "seed": 1, "recbole_length": 50, "recbole_batch_size": 2048, "slice_seconds": 20,
}  # fmt: skip
TINY = {"width": 8, "length": 20, "blocks": 1, "heads": 1, "batch_size": 8, "recbole_length": 10, "slice_seconds": 1}
WANTED = {"rectools": 4.0, "replay": 3.0, "recbole": 15.0}
ACCURACY = 0.99


class _Recorded:
    """A scorer that hands out stored scores in the order of the cases."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self.scores, self.at = scores, 0

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        part = self.scores[self.at : self.at + len(histories)]
        self.at += len(histories)
        return np.array(part)


def entries(options: Options) -> list[Entry]:
    """Who takes part."""
    kinds = (("sasrec_classic", "auto"), ("sasrec_classic", "fp32"), ("sasrec", "auto"))
    ours = [Entry(f"retrank_{'_'.join(kind)}", "retrank_sasrec.py", kind) for kind in kinds[: 1 if options.tiny else 3]]
    others = []
    for peer in options.installed(("rectools", "replay", "recbole")):
        others.append(Entry(peer, f"{peer}_sasrec.py", python=options.python_of(peer)))
        if peer == "replay" and not options.tiny:
            others.append(Entry("replay_buckets", "replay_sasrec.py", ("buckets",), options.python_of(peer)))
    return [ours[0], *others, *ours[1:]]


def run(options: Options) -> Result:
    """Train all in turns, one epoch each, then evaluate what they learned with one evaluator."""
    settings: dict[str, Any] = SETTINGS | (TINY if options.tiny else {})
    settings |= {"epochs": options.rounds + 1, "threads": options.threads}
    world = world_of(options)
    task = prepare(world, options.scratch / NAME, settings)
    with ExitStack() as stack:
        running = [stack.enter_context(Contestant(entry, task.folder, options.threads)) for entry in entries(options)]
        said = take_turns(running, settings["epochs"])
        finished = {contestant.name: contestant.tell("finish") for contestant in running}
    figures = {
        name: _figures(rounds, task, settings) | {"parameters": finished[name]["parameters"]} | _accuracy(task, name)
        for name, rounds in said.items()
    }
    return _result(task, options, settings, figures)


def _figures(rounds: list[dict[str, Any]], task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    timed = rounds[1:] if len(rounds) > 1 else rounds
    targets = task.targets_per_epoch(settings["length"])
    return {
        "seconds": [answer["seconds"] for answer in timed],
        "cpu_seconds": [answer["cpu_seconds"] for answer in timed],
        "whole_epochs": "targets" not in timed[0],
        "targets": [answer.get("targets", targets) for answer in timed],
        "targets_per_s": median([answer.get("targets", targets) / answer["seconds"] for answer in timed]),
        "targets_seen": int(sum(answer.get("targets", targets) for answer in rounds)),
    }


def _accuracy(task: Task, name: str) -> dict[str, float]:
    scores = np.load(task.folder / f"scores_{name}.npy", mmap_mode="r")
    metrics = evaluate(_Recorded(scores), task.test, task.split.train, ks=(10,)).metrics
    return {"ndcg@10": metrics["ndcg@10"], "hr@10": metrics["hr@10"]}


def _result(task: Task, options: Options, settings: dict[str, Any], figures: dict[str, dict[str, Any]]) -> Result:
    ours = figures[OURS]
    goals = []
    for peer, bound in WANTED.items():
        if peer not in figures:
            continue
        ratio, unit = _ratio(ours, figures[peer]), "epoch" if figures[peer]["whole_epochs"] else "supervised target"
        goals.append(at_least(f">= {bound:g}x {peer} per {unit}", ratio, bound))
        if figures[peer]["whole_epochs"]:
            share = ours["ndcg@10"] / max(figures[peer]["ndcg@10"], 1e-9)
            text = f"NDCG@10 at least {ACCURACY:.0%} of {peer} after the same epochs"
            goals.append(Goal(text, f"{share:.2f}x", share >= ACCURACY))
    source = str(options.sequences.name) if options.sequences else "a made-up world with ml-1m's length law"
    events = task.split.train.lengths.sum()
    about = [
        f"{len(task.split.train):,} users, {task.num_items:,} items, {events:,} training events from {source}; width "
        f"{settings['width']}, length {settings['length']}, {settings['blocks']} blocks, {settings['heads']} heads, "
        f"full softmax over all items, batch {settings['batch_size']}, learning rate {settings['learning_rate']}, "
        f"{options.threads} threads. {options.rounds} timed epochs after one that is not counted, the "
        "contestants one epoch each in turn; median (smallest-largest).",
        "`retrank_sasrec_classic` has the shape of the others (pre-norm, ReLU, dot product) and their optimizer (Adam, "
        "constant rate, last weights); `retrank_sasrec` is the default (gated blocks, cosine, schedule and average "
        "over the epochs that are trained here). `auto` is retrank's default precision: bf16 where the processor "
        "multiplies it natively, which this one "
        f"{'does' if choose('auto') == 'bf16-mixed' else 'does not'}; the others compute in fp32, as they do "
        "unless told otherwise. Feed-forward nets are 4 widths wide, but 1 in RecTools, which fixes "
        "it. `replay_buckets` is RePlay with its own length buckets. RecBole makes one row of each prefix: it "
        f"trains on prefixes of {settings['recbole_length']} events in batches of "
        f"{settings['recbole_batch_size']:,}, for {settings['slice_seconds']} seconds a round, and is compared by "
        "supervised targets per second.",
        "NDCG@10 on the held-out last items, seen items removed, all by retrank's evaluator from the scores each "
        f"contestant gave after {settings['epochs']} epochs: early in training for everyone, not their best.",
    ]
    columns = ["contestant", "seconds per epoch", "CPU s", "targets/s", "retrank is faster by", "NDCG@10", "weights"]
    rows = [[name, *_cells(figure, ours)] for name, figure in figures.items()]
    return Result(
        NAME,
        "A small sequence model, per epoch",
        about,
        columns,
        rows,
        goals,
        {"settings": settings, "contestants": figures},
    )


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    if theirs["whole_epochs"]:
        return median(theirs["seconds"]) / median(ours["seconds"])
    return float(ours["targets_per_s"] / theirs["targets_per_s"])


def _cells(figure: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    whole = figure["whole_epochs"]
    return [
        spread(figure["seconds"]) if whole else "-",
        f"{median(figure['cpu_seconds']):.1f}" if whole else "-",
        f"{figure['targets_per_s']:,.0f}",
        f"{_ratio(ours, figure):.2f}x",
        f"{figure['ndcg@10']:.4f}" + ("" if whole else f" after {figure['targets_seen']:,} targets"),
        f"{figure['parameters']:,}",
    ]
