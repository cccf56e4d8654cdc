"""Worlds of visits whose law is known, made into the tables that `retrank rank` makes, and a ranker trained on them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from worlds import TinyEncoder

from retrank.config import compose, resolve
from retrank.contract.sequences import Sequences
from retrank.data.visits import Visits, visits_between
from retrank.models.ranker import Ranker
from retrank.training.ranking.fit import train
from retrank.training.ranking.heads import HeadSettings
from retrank.training.ranking.load import spec_of
from retrank.training.ranking.prepared import Prepared
from retrank.training.ranking.shown import Shown, with_impressions
from retrank.training.ranking.sources import Sources, SourceSettings
from retrank.training.ranking.table import RankingTable, ranking_table
from retrank.training.scorer import ModelScorer

NUM_ITEMS = 50
HOUR = 3_600_000_000
DAY = 24 * HOUR
SETTINGS = SourceSettings(limits={"sequence": 5, "popular": NUM_ITEMS}, numbers=("price", "margin"))
HEADS = [HeadSettings("click")]


def world(
    num_users: int, days: tuple[int, int, int], clicks: Callable[[int, int], list[int]], at: Callable[[int, int], int]
) -> Sequences:
    """Return histories: two items on the first day, then a visit a day.

    Args:
        num_users: U.
        days: last day that sources know, last day that is learned from, last day of all.
        clicks: item rows that user u clicks on day d.
        at: moment of that visit, in microseconds after midnight.
    """
    rows, times = [], []
    for user in range(num_users):
        own = [(1 + (user + step) % NUM_ITEMS, step * HOUR) for step in range(2)]
        for day in range(days[0], days[2]):
            moment = day * DAY + at(user, day)
            own += [(item, moment + 1_000_000 * place) for place, item in enumerate(clicks(user, day))]
        rows.append([item for item, _ in own])
        times.append([time for _, time in own])
    return Sequences.from_lists(rows, times)


def prepared(
    events: Sequences,
    days: tuple[int, int, int],
    numbers: dict[str, NDArray[np.float32]],
    shown: Shown | None = None,
) -> Prepared:
    """Return candidates of all items for every visit: learned from until the second day, judged after it."""
    assert events.times is not None
    known = np.array([np.searchsorted(events.times[a:b], DAY) for a, b in _parts(events)]) + events.offsets[:-1]
    sources = Sources(
        ModelScorer(TinyEncoder(NUM_ITEMS)), events.slices(events.offsets[:-1], known), NUM_ITEMS, SETTINGS, numbers
    )
    marks = np.ones((len(events.item_rows), 1), dtype=np.float32)

    def visits(start: int, stop: int) -> Visits:
        return visits_between(events, marks, start * DAY, stop * DAY, hours=12)

    def table(found: Visits, *, placed: bool = False) -> RankingTable:
        place_of = partial(shown.of_candidates, found, hours=12) if shown is not None and placed else None
        return ranking_table(sources, found, history_length=3, progress=False, place_of=place_of)

    learned, judged = visits(days[0], days[1]), visits(days[1], days[2])
    coverage = None
    if shown is not None:
        learned, coverage = with_impressions(learned, shown, hours=12, least=0.0)
    later = table(judged)
    return Prepared(
        fit=table(learned, placed=True),
        calibration=later,
        visits=later,
        validation=later,
        test=later,
        validation_cases=judged.cases,
        test_cases=judged.cases,
        later=sources,
        rotation=np.eye(sources.item_vectors.shape[1], dtype=np.float32),
        coverage=coverage,
    )


def trained(found: Prepared, run_dir: Path, *overrides: str) -> Ranker:
    """Train a small ranker as `retrank rank` does."""
    small = (
        "run=none", f"run_dir={run_dir}", "ranker.model.num_actions=0", "ranker.model.width=16",
        "ranker.model.read_vectors=false", "ranker.model.dropout=0", "trainer.progress=false", "trainer.threads=1",
        "trainer.accelerator=cpu", "trainer.patience=99", "optim.learning_rate=0.01", "optim.warmup_steps=5",
        "history_length=3",
    )  # fmt: skip
    config = resolve(compose("rank", [*small, *overrides]))
    ranker, _ = train(config, found, HEADS, run_dir, identity={}, resume=None)
    return ranker


SPEC = spec_of({"history_length": 3}, HEADS, SETTINGS)


def without(table: RankingTable, columns: list[str]) -> RankingTable:
    """Return the table with some features unknown everywhere."""
    features = table.features.copy()
    features[:, [SPEC.features.index(name) for name in columns]] = np.nan
    return table.with_features(features)


def all_without(found: Prepared, columns: list[str]) -> Prepared:
    """Return every window with some features unknown."""
    later = without(found.test, columns)
    return replace(
        found, fit=without(found.fit, columns), calibration=later, visits=later, validation=later, test=later
    )


def _parts(events: Sequences) -> list[tuple[int, int]]:
    return list(zip(events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True))
