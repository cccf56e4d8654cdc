"""Everything a ranker is trained, selected, calibrated and reported on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.data.store import EventStore
from retrank.data.visits import Visits
from retrank.training.ranking.renewal import renewals
from retrank.training.ranking.rotation import rotation_between
from retrank.training.ranking.shown import Coverage, Shown, check_shown
from retrank.training.ranking.sources import Sources, SourceSettings, item_numbers
from retrank.training.ranking.table import PlaceOf, RankingTable, ranking_table
from retrank.training.ranking.visit_windows import VisitWindows
from retrank.training.ranking.windows import Retriever


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
        coverage: how many of the visits before the validation window have an impression, which alone are in `fit`; None
            = places play no part.
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
    coverage: Coverage | None = None


@dataclass(frozen=True)
class Ingredients:
    """What candidates are made from.

    Attributes:
        store: the data.
        past, present: the run that proposes for what the ranker learns from, and the one that will be served.
        sources: what proposes.
        visits: for whom.
        shown: at which places items were shown; None = not known.
    """

    store: EventStore
    past: Retriever
    present: Retriever
    sources: SourceSettings
    visits: VisitWindows
    shown: Shown | None = None


def prepare(ingredients: Ingredients, config: Mapping[str, Any]) -> Prepared:
    """Let the sources propose for every window.

    Args:
        ingredients: what candidates are made from.
        config: of `retrank rank`.

    Raises:
        DataError: impressions say nothing.
    """
    present, visits, shown = ingredients.present, ingredients.visits, ingredients.shown
    earlier, later = _sources(ingredients, ingredients.past), _sources(ingredients, present)
    rotation = rotation_between(later.item_vectors, earlier.item_vectors, earlier.facts.popularity)

    def made(sources: Sources, what: Visits, place_of: PlaceOf | None = None) -> RankingTable:
        length, progress = config["history_length"], config["trainer"]["progress"]
        return ranking_table(sources, what, history_length=length, progress=progress, place_of=place_of)

    def proposed(what: Visits) -> RankingTable:
        return made(later, what).rotated(rotation)

    place_of = None if shown is None else partial(shown.of_candidates, visits.learned, hours=config["visit_hours"])
    learned = made(earlier, visits.learned, place_of)
    if learned.places is not None:
        check_shown(learned.places, learned.labels)
    split = present.split
    return Prepared(
        fit=learned,
        calibration=proposed(visits.calibration),
        visits=proposed(visits.test),
        validation=proposed(Visits(split.validation, _ones(len(split.validation.targets.item_rows)))),
        test=proposed(Visits(split.test, _ones(len(split.test.targets.item_rows)))),
        validation_cases=split.validation,
        test_cases=split.test,
        later=later,
        rotation=rotation,
        coverage=visits.coverage,
    )


def _sources(ingredients: Ingredients, retriever: Retriever) -> Sources:
    store, settings = ingredients.store, ingredients.sources
    numbers = item_numbers(store.item_table, settings.numbers)
    renewed = renewals(store.sequences, retriever.ends_at, settings.refresh_hours)
    return Sources(retriever.scorer, retriever.split.train, store.num_items, settings, numbers, renewed=renewed)


def _ones(count: int) -> NDArray[np.float32]:
    return np.ones((count, 1), dtype=np.float32)
