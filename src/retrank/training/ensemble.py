"""`retrank ensemble`: what several finished runs reach together, with weights that validation chose.

<run_dir>/config.yaml  ensemble.json  metrics.json  ranks.npz  report.json  report.html

It is a yardstick and a teacher (`loss=distilled`), not something to serve: an answer would cost one encoder per member.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from retrank.contract.errors import ConfigError
from retrank.data.splits import Split, split_store
from retrank.data.store import EventStore
from retrank.models.protocols import Scorer
from retrank.training import checkpoint
from retrank.training.baseline_table import BaselineRow, BaselineTable
from retrank.training.blended import Blended, Choice, choose_weights
from retrank.training.context_side import open_store
from retrank.training.evaluate import as_text, baselines_of, recipes_named
from retrank.training.evaluator import evaluate
from retrank.training.peers import open_peer
from retrank.training.report import PAGE, ReportFacts, write_report
from retrank.training.scorer import ModelScorer

ENSEMBLE, WEIGHTS = "Ensemble", "ensemble.json"


class Member(NamedTuple):
    """One of those that vote; `run` is None for a baseline."""

    name: str
    scorer: Scorer
    run: Path | None


def run(cfg: Mapping[str, Any]) -> Path:
    """Choose weights on validation, evaluate on test, write the report, and return the folder.

    Raises:
        ConfigError: fewer than two members, an unknown baseline, or the folder already holds a report.
        TrainingError: a member is not a finished run.
        DataError: the members were not trained on the same data and split.
    """
    config = dict(cfg)
    runs, run_dir = [Path(one) for one in config["runs"]], Path(config["run_dir"])
    if len(runs) + len(config["with_baselines"]) < 2 or not runs:
        raise ConfigError(f"runs is {config['runs']}; an ensemble needs a run, and two members in all")
    if (run_dir / PAGE).exists():
        raise ConfigError(f"run_dir {run_dir} already holds a report; choose another")
    common, store = _common(runs[0], config["store"])
    split = split_store(common["split"], store)
    recipes = recipes_named(config["with_baselines"]) if config["with_baselines"] else []
    shown = baselines_of(store, split, progress=config["progress"]) if config["baselines"] else None
    table = shown or baselines_of(store, split, recipes=recipes, progress=config["progress"])
    members = _runs(runs, store, common) + _baselines([recipe.name for recipe in recipes], table, split, store)
    choice = choose_weights([member.scorer for member in members], split.validation)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / checkpoint.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (run_dir / WEIGHTS).write_text(json.dumps(_record(members, choice), indent=2) + "\n", encoding="utf-8")
    _report(config, store, split, members, choice, table)
    return run_dir


def _common(first: Path, store: str | None) -> tuple[dict[str, Any], EventStore]:
    """Return the settings of the first run, whose split and context the others must share, and the store."""
    _, config = checkpoint.load_model(first)
    return config, open_store(store or config["store"], config)


def _runs(runs: Sequence[Path], store: EventStore, common: Mapping[str, Any]) -> list[Member]:
    question = {"data_hash": store.facts.data_hash, "num_items": store.num_items, "split": common["split"]}
    if store.context_spec is not None:
        question["context"] = common["context"]
    peers = [open_peer(one, question, role="member") for one in runs]
    folders = [one.resolve() for one in runs]
    short = len({folder.name for folder in folders}) == len(folders)
    names = [folder.name if short else f"{folder.parent.name}/{folder.name}" for folder in folders]
    return [Member(name, ModelScorer(peer.model), one) for name, peer, one in zip(names, peers, runs, strict=True)]


def _baselines(names: Sequence[str], table: BaselineTable, split: Split, store: EventStore) -> list[Member]:
    """Fit baselines on train, with the settings that validation chose for them.

    Raises:
        ConfigError: one does not work on this data.
    """
    settings = {row.name: row.settings for row in table.rows}
    members = []
    for recipe in recipes_named(names) if names else []:
        if recipe.name not in settings:
            raise ConfigError(f"with_baselines names {recipe.name}: {table.skipped[recipe.name]}")
        scorer = recipe.build(**settings[recipe.name])
        scorer.fit(split.train, store.num_items)
        members.append(Member(recipe.name, scorer, None))
    return members


def _record(members: Sequence[Member], choice: Choice) -> dict[str, Any]:
    columns = zip(members, choice.weights, choice.alone, strict=True)
    return {
        "members": [
            {"name": member.name, "run": str(member.run) if member.run else None, "weight": weight, "validation": alone}
            for member, weight, alone in columns
        ],
        "validation": choice.together,
    }


def _report(
    config: Mapping[str, Any],
    store: EventStore,
    split: Split,
    members: Sequence[Member],
    choice: Choice,
    table: BaselineTable,
) -> None:
    """Evaluate the members and the blend on test, write the report beside the baselines, and print it."""
    progress = config["progress"]
    rows = [
        _row(member, alone, split, progress=progress)
        for member, alone in zip(members, choice.alone, strict=True)
        if member.run
    ]
    blend = Blended([member.scorer for member in members], choice.weights)
    validation = evaluate(blend, split.validation, split.train, progress=progress)
    test = evaluate(blend, split.test, split.train, progress=progress)
    weights = {member.name: f"{weight:.2f}" for member, weight in zip(members, choice.weights, strict=True)}
    facts = ReportFacts(
        title=config["name"],
        model=ENSEMBLE,
        data_name=store.facts.name,
        data_hash=store.facts.data_hash,
        protocol=split.protocol,
        details={f"weight of {name}": weight for name, weight in weights.items()},
        validation=validation.metrics,
    )
    everyone = BaselineTable(table.data_hash, table.protocol, table.fit_on, [*rows, *table.rows], table.skipped)
    run_dir = Path(config["run_dir"])
    metrics = write_report(run_dir, facts, test, everyone)
    print(
        as_text(
            {ENSEMBLE: test.metrics} | {row.name: row.metrics for row in everyone.rows}, store, split, fit_on="train"
        )
    )
    print("weights, chosen on validation: " + ", ".join(f"{name} {weight}" for name, weight in weights.items()))
    print("", metrics["verdict"]["text"], *metrics["verdict"]["reasons"], f"\n{run_dir / PAGE}", sep="\n")


def _row(member: Member, validation: float, split: Split, *, progress: bool) -> BaselineRow:
    result = evaluate(member.scorer, split.test, split.train, progress=progress)
    return BaselineRow(
        name=member.name,
        settings={},
        validation=validation,
        metrics=result.metrics,
        fit_seconds=0.0,
        score_seconds=result.scorer_seconds,
        ranks=result.ranks,
    )
