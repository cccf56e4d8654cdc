"""Everything a ranker is trained, selected, calibrated and reported on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.errors import DataError
from retrank.data.store import EventStore
from retrank.data.visits import Visits, visits_between
from retrank.training.ranking.heads import HeadSettings, marks_of
from retrank.training.ranking.renewal import renewals
from retrank.training.ranking.rotation import rotation_between
from retrank.training.ranking.shown import Shown, check_shown
from retrank.training.ranking.sources import Sources, SourceSettings, item_numbers
from retrank.training.ranking.table import RankingTable, ranking_table
from retrank.training.ranking.windows import FOREVER, Retriever


@dataclass(frozen=True)
class Prepared:
    """Candidates of every window; all but `fit` come from the run that will be served.

    Attributes:
        fit: visits between the past run and the validation window, proposed for by the past run.
        calibration: visits of the validation window.
        visits: visits of the test window, for calibration error.
        validation: the run's validation cases, on which the ranker is selected.
        test: its test cases.
        validation_cases, test_cases: the cases themselves.
        later: the sources of the run.
        rotation: `[D, D]` float32 from the vectors of the run to those of the past run.
    """

    fit: RankingTable
    calibration: RankingTable
    visits: RankingTable
    validation: RankingTable
    test: RankingTable
    validation_cases: Cases
    test_cases: Cases
    later: Sources
    rotation: NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """What candidates are made from.

    Attributes:
        store: the data.
        past, present: the run that proposes for what the ranker learns from, and the one that will be served.
        heads: what is predicted.
        sources: what proposes.
        shown: at which places items were shown; None = not known.
    """

    store: EventStore
    past: Retriever
    present: Retriever
    heads: list[HeadSettings]
    sources: SourceSettings
    shown: Shown | None = None


def prepare(windows: Windows, config: Mapping[str, Any]) -> Prepared:
    """Let the sources propose for every window.

    Args:
        windows: what candidates are made from.
        config: of `retrank rank`.

    Raises:
        DataError: nobody with a history came back in the window the ranker learns from, or impressions say nothing.
    """
    store, present, heads = windows.store, windows.present, windows.heads
    earlier, later = _sources(windows, windows.past), _sources(windows, present)
    rotation = rotation_between(later.item_vectors, earlier.item_vectors, earlier.facts.popularity)
    marks = marks_of(store, heads)
    binary = np.array([head.kind == "binary" for head in heads])
    made = partial(ranking_table, history_length=config["history_length"], progress=config["trainer"]["progress"])

    def visits(start: int, stop: int) -> Visits:
        found = visits_between(store.sequences, marks, start, stop, hours=config["visit_hours"])
        return Visits(found.cases, np.where(binary, np.minimum(found.marks, 1), found.marks))  # twice is still "yes"

    def proposed(what: Visits) -> RankingTable:
        return made(later, what).rotated(rotation)

    split = present.split
    return Prepared(
        fit=_to_learn_from(windows, earlier, visits(windows.past.ends_at, present.ends_at), made, config),
        calibration=proposed(visits(present.ends_at, present.test_at)),
        visits=proposed(visits(present.test_at, FOREVER)),
        validation=proposed(Visits(split.validation, _ones(len(split.validation.targets.item_rows)))),
        test=proposed(Visits(split.test, _ones(len(split.test.targets.item_rows)))),
        validation_cases=split.validation,
        test_cases=split.test,
        later=later,
        rotation=rotation,
    )


def _sources(windows: Windows, retriever: Retriever) -> Sources:
    store, settings = windows.store, windows.sources
    numbers = item_numbers(store.item_table, settings.numbers)
    renewed = renewals(store.sequences, retriever.ends_at, settings.refresh_hours)
    return Sources(retriever.scorer, retriever.split.train, store.num_items, settings, numbers, renewed=renewed)


def _to_learn_from(
    windows: Windows,
    sources: Sources,
    visits: Visits,
    made: Callable[..., RankingTable],
    config: Mapping[str, Any],
) -> RankingTable:
    """Return the candidates of the visits to learn from, with their places where these are known."""
    if len(visits.cases) == 0:
        raise DataError("no visit with a new item between the past run and the validation window; raise past_share")
    if windows.shown is None:
        return made(sources, visits)
    place_of = partial(windows.shown.of_candidates, visits, hours=config["visit_hours"])
    table = made(sources, visits, place_of=place_of)
    assert table.places is not None, "they were asked for"
    check_shown(table.places, table.labels)
    return table


def _ones(count: int) -> NDArray[np.float32]:
    return np.ones((count, 1), dtype=np.float32)
