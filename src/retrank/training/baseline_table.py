"""Every baseline, tuned on validation with equal courtesy, evaluated like the model, and kept so that it is done once.

The cache is a folder per (store, split, settings): `table.json`, and one file of ranks per baseline for paired tests.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from retrank import __version__
from retrank.contract.errors import ConfigError, RetrankError, SourceError
from retrank.contract.files import staging
from retrank.contract.sequences import Sequences
from retrank.data.progress import hidden
from retrank.data.splits import Split
from retrank.metrics.case_ranks import CaseRanks, SavedRanks
from retrank.models.baselines.ease import EASE
from retrank.models.baselines.item_knn import ItemKNN
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import DecayedPopularity, Popularity
from retrank.models.protocols import Fittable
from retrank.training.evaluator import evaluate

FitOn = Literal["train", "train+validation"]
Settings = dict[str, float | int]
SELECTION_METRIC = "ndcg@10"
_TABLE = "table.json"
_KEY_LENGTH = 16


@dataclass(frozen=True)
class Recipe:
    """A baseline and the settings among which validation chooses: every combination of the listed values."""

    name: str
    build: Callable[..., Fittable]
    grid: dict[str, tuple[float | int, ...]]

    def combinations(self) -> list[Settings]:
        """Return every combination; one empty set of settings when there is nothing to choose."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


RECIPES = (
    Recipe("popularity", Popularity, {}),
    Recipe("decayed_popularity", DecayedPopularity, {"half_life_days": (0.5, 1, 3, 10, 30, 90)}),
    Recipe("markov", Markov, {"decay": (0.5, 0.7, 0.9, 1.0), "num_recent": (10, 50)}),
    Recipe("item_knn", ItemKNN, {"top_k": (5, 10, 50), "shrink": (0, 20)}),
    Recipe("ease", EASE, {"regularisation": (50, 200, 1000)}),
)


class _Tried(NamedTuple):
    """One set of settings, fitted on train."""

    settings: Settings
    validation: float
    scorer: Fittable
    fit_seconds: float


@dataclass(frozen=True)
class BaselineRow:
    """One baseline with the settings validation chose.

    Attributes:
        name: such as "markov".
        settings: chosen values by name, empty when there is nothing to choose.
        validation: `SELECTION_METRIC` on the validation cases, fitted on train.
        metrics: test metrics as in `Evaluation.metrics`.
        fit_seconds: one fit with the chosen settings.
        score_seconds: scoring all test cases.
        ranks: ranks of the test targets.
    """

    name: str
    settings: Settings
    validation: float
    metrics: dict[str, float]
    fit_seconds: float
    score_seconds: float
    ranks: CaseRanks


@dataclass(frozen=True)
class BaselineTable:
    """All baselines on one split; `skipped` says why a baseline is missing."""

    data_hash: str
    protocol: str
    fit_on: FitOn
    rows: list[BaselineRow]
    skipped: dict[str, str]

    def best(self) -> BaselineRow:
        """Return the row that is strongest on validation; the choice never looks at test."""
        return max(self.rows, key=lambda row: row.validation)


def baseline_table(
    split: Split,
    num_items: int,
    *,
    data_hash: str,
    cache: Path | None = None,
    fit_on: FitOn = "train",
    recipes: Sequence[Recipe] = RECIPES,
    progress: bool = False,
) -> BaselineTable:
    """Choose settings on validation, fit again on what `fit_on` says, and evaluate on test.

    Args:
        split: histories and cases.
        num_items: catalogue size N.
        data_hash: hash of the store, part of the key of the cache.
        cache: folder that keeps tables; None computes every time.
        fit_on: "train" as the models are, or "train+validation" for the final fit.
        recipes: baselines and their grids.
        progress: show a progress bar.

    Raises:
        ConfigError: `fit_on` is unknown.
    """
    if fit_on not in ("train", "train+validation"):
        raise ConfigError(f"fit_on is {fit_on!r}; expected 'train' or 'train+validation'")
    key = _key(split, num_items, data_hash, fit_on, recipes)
    kept = _read(cache / key) if cache else None
    if kept:
        return kept
    final = split.train if fit_on == "train" else events_before_test(split)
    rows, skipped = [], {}
    with tqdm(total=sum(len(r.combinations()) for r in recipes), desc="baselines", disable=hidden(progress)) as bar:
        for recipe in recipes:
            try:
                rows.append(_row(recipe, split, final, num_items, bar))
            except RetrankError as error:
                skipped[recipe.name] = str(error)
    table = BaselineTable(data_hash, split.protocol, fit_on, rows, skipped)
    if cache:
        _write(table, cache, key)
    return table


def events_before_test(split: Split) -> Sequences:
    """Train and validation events of all U users, in order.

    For a user with a test case that is the test input. For others it is the train history and the validation targets,
    which lack repeated events: a split does not keep more.
    """
    num_users = len(split.train)
    users = (np.arange(num_users), split.validation.users, split.test.users)
    sources = (split.train, split.validation.targets, split.test.inputs)
    owner = np.concatenate([np.repeat(who, source.lengths) for who, source in zip(users, sources, strict=True)])
    from_test = np.repeat([False, False, True], [len(source.item_rows) for source in sources])
    kept = np.flatnonzero(np.isin(np.arange(num_users), split.test.users)[owner] == from_test)
    order = kept[np.argsort(owner[kept], kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=num_users))]).astype(np.int64)
    item_rows = np.concatenate([source.item_rows for source in sources])[order]
    times = [source.times for source in sources if source.times is not None]
    return Sequences(item_rows, offsets, np.concatenate(times)[order] if len(times) == len(sources) else None)


def _row(recipe: Recipe, split: Split, final: Sequences, num_items: int, bar: tqdm) -> BaselineRow:
    best: _Tried | None = None
    for settings in recipe.combinations():
        bar.set_postfix_str(f"{recipe.name} {settings or ''}")
        scorer, seconds = _fit(recipe, settings, split.train, num_items)
        value = evaluate(scorer, split.validation, split.train, ks=(10,)).metrics[SELECTION_METRIC]
        if best is None or value > best.validation:
            best = _Tried(settings, value, scorer, seconds)
        bar.update()
    assert best is not None, f"{recipe.name} has a setting without values"
    scorer, seconds = best.scorer, best.fit_seconds
    if final is not split.train:
        scorer, seconds = _fit(recipe, best.settings, final, num_items)
    result = evaluate(scorer, split.test, split.train)
    return BaselineRow(
        name=recipe.name,
        settings=best.settings,
        validation=best.validation,
        metrics=result.metrics,
        fit_seconds=seconds,
        score_seconds=result.scorer_seconds,
        ranks=result.ranks,
    )


def _fit(recipe: Recipe, settings: Settings, histories: Sequences, num_items: int) -> tuple[Fittable, float]:
    """Build and fit one baseline; return it with the seconds it took."""
    scorer = recipe.build(**settings)
    started = time.perf_counter()
    scorer.fit(histories, num_items)
    return scorer, time.perf_counter() - started


def _key(split: Split, num_items: int, data_hash: str, fit_on: FitOn, recipes: Sequence[Recipe]) -> str:
    grids = [(recipe.name, recipe.grid) for recipe in recipes]
    what = json.dumps([__version__, data_hash, num_items, split.protocol, fit_on, grids])
    return hashlib.sha256(what.encode()).hexdigest()[:_KEY_LENGTH]


def _write(table: BaselineTable, cache: Path, key: str) -> None:
    record = {
        "data_hash": table.data_hash,
        "protocol": table.protocol,
        "fit_on": table.fit_on,
        "skipped": table.skipped,
        "rows": [{**vars(row), "ranks": f"{row.name}.npz"} for row in table.rows],
    }
    with staging(cache) as staged:
        for row in table.rows:
            row.ranks.save(staged / f"{row.name}.npz", data_hash=table.data_hash, protocol=table.protocol)
        (staged / _TABLE).write_text(json.dumps(record, indent=2) + "\n")
        staged.chmod(0o755)
        if not (cache / key).exists():
            staged.rename(cache / key)


def _read(folder: Path) -> BaselineTable | None:
    """Return the kept table; None when there is none."""
    if not (folder / _TABLE).is_file():
        return None
    try:
        record: dict[str, Any] = json.loads((folder / _TABLE).read_text())
        rows = [BaselineRow(**{**row, "ranks": SavedRanks.load(folder / row["ranks"]).ranks}) for row in record["rows"]]
        return BaselineTable(record["data_hash"], record["protocol"], record["fit_on"], rows, record["skipped"])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{folder / _TABLE}: not a readable table of baselines ({error}); delete its folder"
        ) from error
