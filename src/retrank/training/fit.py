"""`retrank train`: learn, keep the weights that rank best on validation, evaluate them, write the run folder.

<run_dir>/config.yaml  run_card.json  checkpoints/{best,last}.ckpt  logs/  item_encoding.json (with item_content)
          metrics.json  ranks.npz  report.json  report.html     by `retrank evaluate`, with which training ends
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml

from retrank.config import check_described, instantiate, values_of
from retrank.contract.errors import ConfigError, InterruptedRun
from retrank.data.splits import Split, split_store
from retrank.data.store import EventStore
from retrank.training import checkpoint, run_card
from retrank.training.action_side import num_actions_of
from retrank.training.callbacks import Throughput
from retrank.training.context_side import open_store, told_sizes
from retrank.training.datamodule import HistoryData
from retrank.training.distil import module_of, teacher_facts
from retrank.training.ema import Ema
from retrank.training.enough_data import check_enough
from retrank.training.evaluate import evaluate_run
from retrank.training.evaluator import evaluate
from retrank.training.identity import Identity
from retrank.training.interrupts import Interrupts, told_how_to_go_on
from retrank.training.item_side import item_side
from retrank.training.launch.local import Signalled, launch
from retrank.training.launch.on_ray import launch_on_ray
from retrank.training.launch.place import ALONE, OwnRandomness, Place
from retrank.training.litter import no_litter
from retrank.training.loggers import Loggers
from retrank.training.loop import run_loop
from retrank.training.memory import bound_kernels
from retrank.training.random_stream import RandomStream
from retrank.training.scorer import ModelScorer
from retrank.training.selection import Selection
from retrank.training.settle import settle
from retrank.training.step_size import memory_warning
from retrank.training.trainer import TrainerSettings


@dataclass(frozen=True)
class Trained:
    """What training leaves behind besides the files."""

    selection: Selection
    throughput: Throughput


def run(cfg: Mapping[str, Any]) -> Path:
    """Train as configured, evaluate on the test cases, and return the run folder.

    Raises:
        ConfigError: a setting is wrong, or the run folder already holds a run.
        DataError: the data leaves nothing to learn, or nobody to evaluate on.
        SourceError: there is no store.
        TrainingError: the loss diverged, or `ckpt` cannot be resumed.
    """
    config = dict(cfg)
    run_dir = learn(config, say=print)
    conclude(run_dir, config)
    return run_dir


def learn(config: dict[str, Any], *, say: Callable[[str], None]) -> Path:
    """Train without looking at the test cases; write the run card and return the run folder.

    Args:
        config: as of `run`, which names the errors.
        say: told what is trained, on what and where, before it starts.
    """
    store = open_store(config["store"], config)
    config = told_sizes(settle(config, store.sequences), store)
    num_actions_of(store, config["model"].get("num_actions", 0), "model.num_actions")
    split = split_store(config["split"], store)
    for warning in check_enough(store, split, config["split"]):
        say(warning)
    identity = checkpoint.identity_of(config, data_hash=store.facts.data_hash, num_items=store.num_items)
    with no_litter(Path(config["run_dir"])):
        return _learn_in(_folder(config, identity), config, store, split, say)


def _learn_in(
    folder: tuple[Path | None, Path],
    config: dict[str, Any],
    store: EventStore,
    split: Split,
    say: Callable[[str], None],
) -> Path:
    """Train in a run folder, from a checkpoint if there is one, and write the run card."""
    resume, run_dir = folder
    card = run_card.build(config, store, split.protocol, created_at=datetime.now(UTC)) | teacher_facts(config)
    say(_announcement(card, run_dir))
    card |= _train_somewhere(config, store, split, run_dir, resume)
    run_card.write(card, run_dir)
    say(f"kept: the weights of epoch {card['training']['best_epoch']}, best on validation")
    return run_dir


def conclude(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Evaluate the best weights of a run that has learned on the test cases; write report and metrics."""
    metrics = evaluate_run(run_dir, baselines=config["baselines"], progress=config["trainer"]["progress"])
    run_card.write(run_card.read(run_dir) | {"metrics": metrics}, run_dir)


def _train_somewhere(
    config: dict[str, Any], store: EventStore, split: Split, run_dir: Path, resume: Path | None
) -> dict[str, Any]:
    """Train in this process or in several, as configured; return the facts for the run card."""
    settings: TrainerSettings = instantiate(config["trainer"])
    if settings.processes == 1 and settings.launcher == "local":
        return _training_facts(train(config, store, split, run_dir, resume=resume))
    if settings.processes > config["batches"]["batch_size"]:
        raise ConfigError(
            f"trainer.processes is {settings.processes} and batches.batch_size {config['batches']['batch_size']}: "
            "they share the histories of a batch, so some would have none; raise the batch size"
        )
    work = partial(_work, config, run_dir, resume)
    try:
        if settings.launcher == "ray":
            return launch_on_ray(work, settings.processes, run_dir, gpus=settings.on_gpus)
        return launch(work, settings.processes)
    except Signalled as error:
        ended_by = signal.Signals(error.number)
        raise InterruptedRun(f"interrupted by {ended_by.name}", ended_by, _onward(run_dir)) from error


def _work(config: dict[str, Any], run_dir: Path, resume: Path | None, place: Place) -> dict[str, Any]:
    """Be one of several training processes; one that replaces a lost one continues from what the run has written."""
    written = run_dir / checkpoint.CHECKPOINTS / checkpoint.LAST
    resume = written if resume is None and written.is_file() else resume
    store = open_store(config["store"], config)
    split = split_store(config["split"], store)
    return _training_facts(train(config, store, split, run_dir, resume=resume, place=place))


def train(
    config: Mapping[str, Any],
    store: EventStore,
    split: Split,
    run_dir: Path,
    *,
    resume: Path | None,
    place: Place = ALONE,
) -> Trained:
    """Run the training loop, in this process or as one of several; checkpoints and logs go to `run_dir`."""
    bound_kernels()
    seed = int(config["seed"])
    torch.manual_seed(seed)
    settings: TrainerSettings = instantiate(config["trainer"])
    loggers: Loggers = instantiate(config["logger"])
    with values_of("model"):
        model = instantiate(config["model"])(num_items=store.num_items, **item_side(config, store, split, run_dir))
    if config["warm_start"] is not None:
        check_described("warm_start", config["warm_start"], "warm_start._target_=retrank.data.item_factors.ItemFactors")
        factors = instantiate(config["warm_start"])(split.train, store.num_items, model.width)
        model.start_from(torch.from_numpy(factors))
    identity = checkpoint.identity_of(dict(config), data_hash=store.facts.data_hash, num_items=store.num_items)
    module = module_of(config, model, identity)
    with values_of("batches"):
        data = HistoryData(split.train, instantiate(config["batches"]), seed=seed, inputs=module.inputs, place=place)

    warning = memory_warning(config, model, data.batches, processes=place.world_size) if settings.check_memory else ""
    if warning and place.rank == 0:
        print(warning, flush=True)

    def rank(_: pl.LightningModule) -> dict[str, float]:
        return evaluate(ModelScorer(model), split.validation, split.train, ks=(10,)).metrics

    ema, throughput = Ema(settings.ema_decay), Throughput()
    folder = run_dir / checkpoint.CHECKPOINTS
    selection = Selection(rank, ema, folder, every=settings.validate_every, patience=settings.patience)
    interrupts = Interrupts()
    streams = [RandomStream(), OwnRandomness(seed, place)]
    callbacks = [ema, throughput, selection, Identity(identity), *streams, interrupts]
    trainer = settings.build(run_dir, callbacks, loggers.build(run_dir), place)
    with told_how_to_go_on(partial(_onward, run_dir)):
        run_loop(trainer, module, data, resume=resume, interrupts=interrupts, config=config)
    return Trained(selection, throughput)


def _onward(run_dir: Path) -> str:
    kept = (run_dir / checkpoint.CHECKPOINTS / checkpoint.LAST).is_file()
    return f"continue with the same settings and ckpt={run_dir}" if kept else "it has no checkpoint yet, start it again"


def _folder(config: dict[str, Any], identity: dict[str, Any]) -> tuple[Path | None, Path]:
    """Return the checkpoint to continue from, if any, and the run folder; write the configuration of a new run."""
    run_dir = Path(config["run_dir"])
    if config["ckpt"] is not None:
        resume = checkpoint.find(config["ckpt"], run_dir)
        checkpoint.check_resumable(resume, identity)
        return resume, resume.parent.parent
    if (run_dir / checkpoint.CHECKPOINTS).exists():  # a run that never got that far holds nothing worth keeping
        raise ConfigError(f"run_dir {run_dir} already holds a run; choose another, or continue it with ckpt={run_dir}")
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / checkpoint.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return None, run_dir


def _training_facts(trained: Trained) -> dict[str, Any]:
    totals = trained.throughput.totals
    return {
        "training": {
            **totals,
            "events_per_s": totals["events"] / totals["wall_s"] if totals["wall_s"] else None,
            "best_epoch": trained.selection.best["epoch"],
            "validation": trained.selection.history,
        }
    }


def _announcement(card: dict[str, Any], run_dir: Path) -> str:
    return "\n".join(
        [
            yaml.safe_dump(card["config"], sort_keys=False),
            " ".join(f"{name} {number}" for name, number in card["versions"].items()),
            f"{card['data']['num_users']:,} users, {card['data']['num_items']:,} items, protocol: {card['protocol']}",
            f"run folder: {run_dir}",
        ]
    )
