"""`retrank rank`: candidates of all sources, a learned blend, and a ranker selected and calibrated on validation.

<run_dir>/config.yaml  run_card.json  checkpoints/{best,last}.ckpt  logs/  past/ (the earlier retriever)
          ranker.json  rotation.npy  metrics.json  ranks.npz  report.json  report.html  ranking.html
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from retrank.config import instantiate, values_of
from retrank.contract.errors import ConfigError, DataError
from retrank.contract.ranker_spec import RankerSpec
from retrank.data.store import EventStore
from retrank.data.visits import Visits, visits_between
from retrank.models.ranker import Ranker
from retrank.training import checkpoint, run_card
from retrank.training.action_side import num_actions_of
from retrank.training.calibrate import fit_calibration
from retrank.training.context_side import open_store
from retrank.training.ema import Ema
from retrank.training.identity import Identity
from retrank.training.loggers import Loggers
from retrank.training.ranking import page
from retrank.training.ranking.check import check_settings
from retrank.training.ranking.evaluate import assess
from retrank.training.ranking.heads import HeadSettings, marks_of
from retrank.training.ranking.load import ROTATION, SPEC, build, spec_of
from retrank.training.ranking.module import RankingData, RankingModule
from retrank.training.ranking.prepared import Prepared
from retrank.training.ranking.ranks import candidate_ranks
from retrank.training.ranking.renewal import renewals
from retrank.training.ranking.reranker import outputs_of
from retrank.training.ranking.rotation import rotation_between
from retrank.training.ranking.sources import Sources, SourceSettings, item_numbers
from retrank.training.ranking.table import RankingTable, ranking_table
from retrank.training.ranking.windows import FOREVER, Retriever, check_order, open_retriever, past_recipe, train_past
from retrank.training.selection import MONITORED, Selection
from retrank.training.trainer import TrainerSettings

PAST = "past"
_IDENTITY = ("run", "past", "past_share", "sources", "ranker", "optim", "batches", "heads", "seed")


def run(cfg: Mapping[str, Any]) -> Path:
    """Train a ranker as configured and return the run folder.

    Raises:
        ConfigError: a setting is wrong, or the run folder already holds a run.
        TrainingError: the retriever's run is not finished, or the loss diverged.
        DataError: there are no visits to learn from.
    """
    config = copy.deepcopy(dict(cfg))
    run_dir = Path(config["run_dir"])
    if (run_dir / checkpoint.CHECKPOINTS).exists():
        raise ConfigError(f"run_dir {run_dir} already holds a run; choose another")
    _, of_retriever = checkpoint.load_model(config["run"])
    store = open_store(config["store"] or of_retriever["store"], of_retriever)
    heads = [HeadSettings(**head) for head in config["heads"]]
    settings: SourceSettings = instantiate(config["sources"])
    of_ranker = config["ranker"]["model"]
    of_ranker["num_actions"] = num_actions_of(store, of_ranker["num_actions"], "ranker.model.num_actions")
    present = open_retriever(Path(config["run"]), store)
    check_settings(config, store, present, heads, settings)
    past_dir = Path(config["past"] or run_dir / PAST)
    recipe = None if config["past"] else past_recipe(present, config["past_share"], past_dir, config["trainer"])
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / checkpoint.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    past = open_retriever(past_dir if recipe is None else train_past(recipe), store)
    check_order(past, present)
    card = run_card.build(config, store, present.split.protocol, created_at=datetime.now(UTC))
    prepared = prepare(config, store, past, present, heads=heads, settings=settings)
    model, selection = train(config, prepared, heads, store, run_dir)
    spec = calibrated(config, prepared, model, heads, settings)
    (run_dir / SPEC).write_text(spec.to_json(), encoding="utf-8")
    np.save(run_dir / ROTATION, prepared.rotation)
    card["training"] = {"best_epoch": selection.best["epoch"], "validation": selection.history}
    run_card.write(card, run_dir)
    details = {"retriever": str(config["run"]), "past run": str(past_dir), "seed": str(config["seed"])}
    chosen = {"title": config["name"], "details": details, "baselines": config["baselines"]}
    progress = {"progress": config["trainer"]["progress"]}
    report = assess(run_dir, store, present, prepared, model, spec=spec, settings=chosen | progress)
    page.write_page(run_dir, config["name"], report, outputs_of(model, prepared.visits), prepared.visits, spec)
    print("", page.as_text(report), f"\n{run_dir / page.PAGE}", sep="\n")
    run_card.write(card | {"metrics": report.metrics}, run_dir)
    return run_dir


def prepare(
    config: Mapping[str, Any],
    store: EventStore,
    past: Retriever,
    present: Retriever,
    *,
    heads: list[HeadSettings],
    settings: SourceSettings,
) -> Prepared:
    """Let the sources propose for every window.

    Raises:
        DataError: nobody with a history came back in the window the ranker learns from.
    """
    numbers = item_numbers(store.item_table, settings.numbers)

    def sources_of(retriever: Retriever) -> Sources:
        renewed = renewals(store.sequences, retriever.ends_at, settings.refresh_hours)
        train_part = retriever.split.train
        return Sources(retriever.scorer, train_part, store.num_items, settings, numbers, renewed=renewed)

    earlier, later = sources_of(past), sources_of(present)
    rotation = rotation_between(later.item_vectors, earlier.item_vectors, earlier.facts.popularity)
    marks = marks_of(store, heads)
    binary = np.array([head.kind == "binary" for head in heads])
    length, progress = config["history_length"], config["trainer"]["progress"]

    def visits(start: int, stop: int) -> Visits:
        found = visits_between(store.sequences, marks, start, stop, hours=config["visit_hours"])
        return Visits(found.cases, np.where(binary, np.minimum(found.marks, 1), found.marks))  # twice is still "yes"

    def proposed(what: Visits) -> RankingTable:
        return ranking_table(later, what, history_length=length, progress=progress).rotated(rotation)

    learned_from = visits(past.ends_at, present.ends_at)
    if len(learned_from.cases) == 0:
        raise DataError("no visit with a new item between the past run and the validation window; raise past_share")
    split = present.split
    return Prepared(
        fit=ranking_table(earlier, learned_from, history_length=length, progress=progress),
        calibration=proposed(visits(present.ends_at, present.test_at)),
        visits=proposed(visits(present.test_at, FOREVER)),
        validation=proposed(Visits(split.validation, _ones(len(split.validation.targets.item_rows)))),
        test=proposed(Visits(split.test, _ones(len(split.test.targets.item_rows)))),
        validation_cases=split.validation,
        test_cases=split.test,
        later=later,
        rotation=rotation,
    )


def train(
    config: Mapping[str, Any], prepared: Prepared, heads: list[HeadSettings], store: EventStore, run_dir: Path
) -> tuple[Ranker, Selection]:
    """Run the training loop; return the ranker with its best averaged weights."""
    torch.manual_seed(int(config["seed"]))
    trainer_settings: TrainerSettings = instantiate(config["trainer"])
    loggers: Loggers = instantiate(config["logger"])
    shape = _Shape(prepared.fit.features.shape[1], prepared.fit.item_vectors.shape[1])
    model = build(config, shape, heads)
    model.fit_numerics(prepared.fit.features)
    model.fit_rates(prepared.fit.labels)
    with values_of("ranker.loss"):
        loss = instantiate(config["ranker"]["loss"])([head.head for head in heads])
    data = RankingData(prepared.fit, **config["batches"], seed=int(config["seed"]))
    spec = spec_of(config, heads, prepared.later.settings)

    def rank(_: object) -> dict[str, float]:
        return _ndcg(prepared, spec.score(outputs_of(model, prepared.validation)), store.num_items)

    ema = Ema(trainer_settings.ema_decay)
    folder = run_dir / checkpoint.CHECKPOINTS
    selection = Selection(rank, ema, folder, every=trainer_settings.validate_every, patience=trainer_settings.patience)
    identity = {"data_hash": store.facts.data_hash, **shape._asdict(), **{name: config[name] for name in _IDENTITY}}
    trainer = trainer_settings.build(run_dir, [ema, selection, Identity(identity)], loggers.build(run_dir))
    trainer.fit(RankingModule(model, loss, instantiate(config["optim"])), datamodule=data)
    model.load_state_dict(checkpoint.averaged_state(checkpoint.read(folder / checkpoint.BEST)))
    return model.eval(), selection


class _Shape(NamedTuple):
    """What a ranker is built for besides its configuration."""

    num_features: int
    vector_width: int


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


def _ndcg(prepared: Prepared, scores: NDArray[np.float64], num_items: int) -> dict[str, float]:
    cases, table = prepared.validation_cases, prepared.validation
    everything = np.ones(len(table.rows), dtype=bool)
    return {MONITORED: candidate_ranks(table, cases, scores, num_items, shown=everything).mean((10,))[MONITORED]}


def _ones(count: int) -> NDArray[np.float32]:
    return np.ones((count, 1), dtype=np.float32)
