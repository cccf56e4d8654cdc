"""`retrank rank`: candidates of all sources, a learned blend, and a ranker selected and calibrated on validation.

<run_dir>/config.yaml  run_card.json  checkpoints/{best,last}.ckpt  logs/  past/ (the earlier retriever)
          ranker.json  rotation.npy  metrics.json  ranks.npz  report.json  report.html  ranking.html
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from retrank.config import instantiate, values_of
from retrank.contract.ranker_spec import RankerSpec
from retrank.models.ranker import Ranker
from retrank.training import checkpoint, run_card
from retrank.training.action_side import num_actions_of
from retrank.training.calibrate import fit_calibration
from retrank.training.context_side import open_store
from retrank.training.ema import Ema
from retrank.training.identity import Identity
from retrank.training.interrupts import Interrupts, told_how_to_go_on
from retrank.training.litter import no_litter
from retrank.training.loggers import Loggers
from retrank.training.loop import run_loop
from retrank.training.memory import bound_kernels, told_by_settings
from retrank.training.random_stream import RandomStream
from retrank.training.ranking import page
from retrank.training.ranking.check import check_settings
from retrank.training.ranking.evaluate import assess
from retrank.training.ranking.folder import checkpoint_to_go_on_from, how_to_go_on, identity_of
from retrank.training.ranking.heads import HeadSettings
from retrank.training.ranking.load import ROTATION, SPEC, build, spec_of
from retrank.training.ranking.module import RankingData, RankingModule
from retrank.training.ranking.prepared import Ingredients, Prepared, prepare
from retrank.training.ranking.ranks import candidate_ranks
from retrank.training.ranking.reranker import outputs_of
from retrank.training.ranking.shown import read_shown
from retrank.training.ranking.sources import SourceSettings
from retrank.training.ranking.visit_windows import visit_windows
from retrank.training.ranking.windows import (
    Moments,
    check_width,
    open_retriever,
    past_recipe,
    train_ends_at,
    train_past,
)
from retrank.training.selection import MONITORED, Selection
from retrank.training.trainer import TrainerSettings

PAST = "past"


def run(cfg: Mapping[str, Any]) -> Path:
    """Train a ranker as configured and return the run folder; one that was interrupted in that folder is continued.

    Raises:
        ConfigError: a setting is wrong, a window has no visits, or the run folder already holds another run.
        TrainingError: the retriever's run, or the past one, is not finished, the loss diverged, or memory ran out.
        InterruptedRun: a signal came.
        DataError: impressions say nothing.
    """
    config = copy.deepcopy(dict(cfg))
    run_dir = Path(config["run_dir"])
    with told_how_to_go_on(partial(how_to_go_on, run_dir)), told_by_settings(config), no_litter(run_dir):
        return _run(config, run_dir)


def _run(config: dict[str, Any], run_dir: Path) -> Path:
    bound_kernels()
    _, of_retriever = checkpoint.load_model(config["run"])
    for retriever in filter(None, (config["run"], config["past"])):
        run_card.of_finished(Path(retriever))
    store = open_store(config["store"] or of_retriever["store"], of_retriever)
    heads = [HeadSettings(**head) for head in config["heads"]]
    settings: SourceSettings = instantiate(config["sources"])
    of_ranker = config["ranker"]["model"]
    of_ranker["num_actions"] = num_actions_of(store, of_ranker["num_actions"], "ranker.model.num_actions")
    present = open_retriever(Path(config["run"]), store)
    check_settings(config, store, present, heads, settings)
    shown = None if config["shown"] is None else read_shown(config["shown"], store)
    shape = (len(spec_of(config, heads, settings).features), present.scorer.model.width)
    identity = identity_of(config, store, shape, shown)
    resume = checkpoint_to_go_on_from(run_dir, identity)
    past_dir = Path(config["past"] or run_dir / PAST)
    recipe = None if config["past"] else past_recipe(present, config["past_share"], past_dir, config["trainer"])
    past_split = checkpoint.load_model(past_dir)[1]["split"] if recipe is None else recipe["split"]
    moments = Moments(train_ends_at(past_dir, past_split, store), present.ends_at, present.test_at)
    least = config["min_shown_share"]
    visits = visit_windows(store, heads, moments, hours=config["visit_hours"], shown=shown, min_shown_share=least)
    if visits.coverage is not None:
        print(visits.coverage.as_text())
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / checkpoint.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    past = open_retriever(past_dir if recipe is None else train_past(recipe), store)
    check_width(past, present)
    card = run_card.build(config, store, present.split.protocol, created_at=datetime.now(UTC))
    prepared = prepare(Ingredients(store, past, present, settings, visits, shown), config)
    model, selection = train(config, prepared, heads, run_dir, identity=identity, resume=resume)
    spec = calibrated(config, prepared, model, heads, settings)
    (run_dir / SPEC).write_text(spec.to_json(), encoding="utf-8")
    np.save(run_dir / ROTATION, prepared.rotation)
    card["training"] = {"best_epoch": selection.best["epoch"], "validation": selection.history}
    run_card.write(card, run_dir)
    details = {"retriever": str(config["run"]), "past run": str(past_dir), "seed": str(config["seed"])}
    chosen = {"title": config["name"], "details": details, "baselines": config["baselines"]}
    progress = {"progress": config["trainer"]["progress"]}
    report = assess(run_dir, store, present, prepared, model, spec=spec, settings=chosen | progress)
    run_card.write(card | {"metrics": report.metrics}, run_dir)
    page.write_page(run_dir, config["name"], report, outputs_of(model, prepared.visits), prepared.visits, spec)
    print("", page.as_text(report), f"\n{run_dir / page.PAGE}", sep="\n")
    return run_dir


def train(
    config: Mapping[str, Any],
    prepared: Prepared,
    heads: list[HeadSettings],
    run_dir: Path,
    *,
    identity: dict[str, Any],
    resume: Path | None,
) -> tuple[Ranker, Selection]:
    """Run the training loop, from a checkpoint if there is one; return the ranker with its best averaged weights."""
    torch.manual_seed(int(config["seed"]))
    settings: TrainerSettings = instantiate(config["trainer"])
    loggers: Loggers = instantiate(config["logger"])
    model = build(config, (prepared.fit.features.shape[1], prepared.fit.item_vectors.shape[1]), heads)
    model.fit_numerics(prepared.fit.features)
    model.fit_rates(prepared.fit.labels)
    with values_of("ranker.loss"):
        loss = instantiate(config["ranker"]["loss"])([head.head for head in heads])
    data = RankingData(prepared.fit, **config["batches"], seed=int(config["seed"]))
    spec = spec_of(config, heads, prepared.later.settings)

    def rank(_: object) -> dict[str, float]:
        return _ndcg(prepared, spec.score(outputs_of(model, prepared.validation)))

    ema, interrupts = Ema(settings.ema_decay), Interrupts()
    folder = run_dir / checkpoint.CHECKPOINTS
    selection = Selection(rank, ema, folder, every=settings.validate_every, patience=settings.patience)
    callbacks = [ema, selection, Identity(identity), RandomStream(), interrupts]
    run_loop(
        settings.build(run_dir, callbacks, loggers.build(run_dir)),
        RankingModule(model, loss, instantiate(config["optim"])),
        data,
        resume=resume,
        interrupts=interrupts,
        config=config,
    )
    model.load_state_dict(checkpoint.averaged_state(checkpoint.read(folder / checkpoint.BEST)))
    return model.eval(), selection


def calibrated(
    config: Mapping[str, Any], prepared: Prepared, model: Ranker, heads: list[HeadSettings], settings: SourceSettings
) -> RankerSpec:
    """Return the spec with a curve for every binary head, fitted to the visits of the validation window."""
    spec = spec_of(config, heads, settings)
    outputs, labels = outputs_of(model, prepared.calibration), (prepared.calibration.labels > 0).astype(np.float64)
    curved = [
        head.model_copy(update={"calibration": fit_calibration(outputs[:, at], labels[:, at])})
        if head.kind == "binary"
        else head
        for at, head in enumerate(spec.heads)
    ]
    return spec.model_copy(update={"heads": tuple(curved)})


def _ndcg(prepared: Prepared, scores: NDArray[np.float64]) -> dict[str, float]:
    cases, table, num_items = prepared.validation_cases, prepared.validation, len(prepared.later.item_vectors) - 1
    everything = np.ones(len(table.rows), dtype=bool)
    return {MONITORED: candidate_ranks(table, cases, scores, num_items, shown=everything).mean((10,))[MONITORED]}
