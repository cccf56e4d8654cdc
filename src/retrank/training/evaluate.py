"""`retrank evaluate`: a trained run beside the baselines, or the baselines alone, on a store and a split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from retrank.contract.errors import ConfigError, DataError
from retrank.data.splits import Split, split_store
from retrank.data.store import EventStore
from retrank.models.protocols import QueryEncoder, Rescoring
from retrank.training import rescoring, run_card
from retrank.training.baseline_table import RECIPES, BaselineTable, FitOn, Recipe, baseline_table
from retrank.training.checkpoint import load_model
from retrank.training.context_side import open_store
from retrank.training.evaluator import evaluate
from retrank.training.report import COLUMNS, PAGE, ReportFacts, metric_label, write_report
from retrank.training.scorer import ModelScorer

CACHE = "baselines"
UNTRAINED = "untrained_recall@100"


def run(cfg: Mapping[str, Any]) -> None:
    """Evaluate as configured, print the table, and write the report of a run into its folder.

    Raises:
        ConfigError: neither a run nor a store is named, or a baseline is unknown.
        SourceError: there is no store or no run.
        DataError: the run was trained on other data than the store holds.
    """
    if cfg["run"] is not None:
        evaluate_run(Path(cfg["run"]), store=cfg["store"], baselines=cfg["baselines"], progress=cfg["progress"])
        return
    if cfg["store"] is None:
        raise ConfigError("evaluate needs run=RUN for a trained run, or store=STORE for the baselines; both are null")
    store = EventStore.open(cfg["store"])
    split = split_store(cfg["split"], store)
    recipes = recipes_named(cfg["only"])
    table = baselines_of(store, split, fit_on=cfg["fit_on"], recipes=recipes, progress=cfg["progress"])
    print(as_text({row.name: row.metrics for row in table.rows}, store, split, fit_on=table.fit_on))
    for name, reason in table.skipped.items():
        print(f"{name} is missing: {reason}")


def evaluate_run(
    run_dir: Path, *, store: str | None = None, baselines: bool = True, progress: bool = True
) -> dict[str, Any]:
    """Evaluate the best weights of a run on validation and test and write its report.

    Args:
        run_dir: folder written by `retrank train`, with a best checkpoint.
        store: root of the store; None = the one the run was trained on.
        baselines: evaluate the baselines too; cached below the store.
        progress: show progress bars.

    Returns:
        what `metrics.json` holds, see `report.write_report`.

    Raises:
        TrainingError: not a run folder, or no best checkpoint.
        SourceError: there is no store.
        DataError: the run was trained on other data than the store holds.
    """
    model, config = load_model(run_dir)
    opened = open_store(store or config["store"], config)
    card = run_card.read(run_dir)
    _check_data(card, opened, run_dir)
    split = split_store(config["split"], opened)
    scorer = ModelScorer(cast(QueryEncoder, model))
    validation = evaluate(scorer, split.validation, split.train, progress=progress)
    test = evaluate(scorer, split.test, split.train, progress=progress)
    table = baselines_of(opened, split, progress=progress) if baselines else None
    facts = ReportFacts(
        title=config["name"],
        model=type(model).__name__,
        data_name=opened.facts.name,
        data_hash=opened.facts.data_hash,
        protocol=split.protocol,
        details=_details(card),
        validation=validation.metrics,
    )
    metrics = write_report(run_dir, facts, test, table)
    rows = {facts.model: test.metrics} | {row.name: row.metrics for row in (table.rows if table else [])}
    print(as_text(rows, opened, split, fit_on="train"))
    if isinstance(model, Rescoring):
        print(rescoring.assess(run_dir, scorer, split, test, progress=progress))
    if UNTRAINED in test.metrics:
        found = ", ".join(f"{name} {row[UNTRAINED]:.4f}" for name, row in rows.items() if UNTRAINED in row)
        count = split.counts.get("untrained_item_targets_test")
        print(f"recall@100 of targets never seen in training{f' ({count:,} of them)' if count else ''}: {found}")
    if metrics["verdict"]:
        print("", metrics["verdict"]["text"], *metrics["verdict"]["reasons"], sep="\n")
    print(f"\n{run_dir / PAGE}")
    return metrics


def baselines_of(
    store: EventStore,
    split: Split,
    *,
    fit_on: FitOn = "train",
    recipes: Sequence[Recipe] = RECIPES,
    progress: bool = False,
) -> BaselineTable:
    """Return the table of baselines, kept in `baselines/` beside the store's versions."""
    return baseline_table(
        split,
        store.num_items,
        data_hash=store.facts.data_hash,
        cache=store.directory.parent / CACHE,
        fit_on=fit_on,
        recipes=recipes,
        progress=progress,
    )


def as_text(rows: Mapping[str, Mapping[str, float]], store: EventStore, split: Split, *, fit_on: str) -> str:
    """Lay test metrics out as a table, best NDCG@10 first."""
    lines = [
        f"{store.facts.name} · {split.protocol} · fitted on {fit_on} · "
        f"{len(split.test):,} test cases over {store.num_items:,} items",
        f"{'':<20}" + "".join(f"{metric_label(name):>13}" for name in COLUMNS),
    ]
    for name, metrics in sorted(rows.items(), key=lambda pair: -pair[1]["ndcg@10"]):
        lines.append(f"{name:<20}" + "".join(f"{metrics[column]:>13.4f}" for column in COLUMNS))
    return "\n".join(lines)


def recipes_named(only: Sequence[str]) -> Sequence[Recipe]:
    """Return the recipes of the named baselines, or all when none are named.

    Raises:
        ConfigError: a baseline of that name does not exist.
    """
    known = [recipe.name for recipe in RECIPES]
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise ConfigError(f"no baseline is called {', '.join(unknown)}; expected some of {', '.join(known)}")
    return [recipe for recipe in RECIPES if not only or recipe.name in only]


def _check_data(card: Mapping[str, Any], store: EventStore, run_dir: Path) -> None:
    trained_on = card.get("data", {}).get("data_hash", store.facts.data_hash)
    if trained_on != store.facts.data_hash:
        raise DataError(
            f"{run_dir} was trained on data {trained_on}, but {store.directory} holds {store.facts.data_hash}; "
            "name the store of the run with store=..., or train again"
        )


def _details(card: Mapping[str, Any]) -> dict[str, str]:
    """Pick from the run card what a reader of the report wants to know."""
    training, machine = card.get("training", {}), card.get("machine", {})
    found = {
        "trained at": card.get("created_at"),
        "seed": card.get("seed"),
        "minutes": f"{training['wall_s'] / 60:.1f}" if training.get("wall_s") else None,
        "best epoch": training.get("best_epoch"),
        "events per second": f"{training['events_per_s']:,.0f}" if training.get("events_per_s") else None,
        "machine": f"{machine['cpu']}, {machine['cores']} cores" if machine else None,
        "versions": ", ".join(f"{name} {number}" for name, number in card.get("versions", {}).items()),
        "commit": card.get("git_commit"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}
