"""The visits of every window: known, and refused, before anything is trained on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrank.contract.errors import ConfigError
from retrank.data.store import EventStore
from retrank.data.visits import Visits, visits_between
from retrank.training.ranking.heads import HeadSettings, marks_of
from retrank.training.ranking.shown import Coverage, Shown, with_impressions
from retrank.training.ranking.windows import FOREVER, Moments

_REMEDIES = {
    "learned": "raise past_share",
    "calibration": "train the run with a larger split.validation_share",
    "test": "train the run with a larger split.test_share",
}


@dataclass(frozen=True)
class VisitWindows:
    """Visits of three windows; of each item only its first meeting counts, see `visits_between`.

    Attributes:
        learned: between the past run and the validation window; with impressions, those alone that have one.
        calibration: of the validation window.
        test: of the test window.
        coverage: how many visits to learn from have an impression; None = places play no part.
    """

    learned: Visits
    calibration: Visits
    test: Visits
    coverage: Coverage | None = None


def visit_windows(
    store: EventStore,
    heads: Sequence[HeadSettings],
    moments: Moments,
    *,
    hours: float,
    shown: Shown | None,
    min_shown_share: float,
) -> VisitWindows:
    """Cut the events of a store into the visits of each window.

    Args:
        store: the data.
        heads: what is predicted.
        moments: where the windows begin.
        hours: length of a visit, > 0.
        shown: where items were shown; None = not known.
        min_shown_share: smallest share of the visits to learn from that must have an impression, 0..1.

    Raises:
        ConfigError: a window has no visit, or too few of those to learn from have an impression.
    """
    marks = marks_of(store, heads)
    binary = np.array([head.kind == "binary" for head in heads])
    spans = {
        "learned": (moments.past_ends_at, moments.ends_at),
        "calibration": (moments.ends_at, moments.test_at),
        "test": (moments.test_at, FOREVER),
    }
    found = {}
    for name, (start, stop) in spans.items():
        visits = visits_between(store.sequences, marks, start, stop, hours=hours)
        found[name] = Visits(
            visits.cases, np.where(binary, np.minimum(visits.marks, 1), visits.marks)
        )  # twice is "yes"
    _check(found)
    learned, coverage = found["learned"], None
    if shown is not None:
        learned, coverage = with_impressions(learned, shown, hours=hours, least=min_shown_share)
    return VisitWindows(learned, found["calibration"], found["test"], coverage)


def _check(found: dict[str, Visits]) -> None:
    empty = [name for name, visits in found.items() if len(visits.cases) == 0]
    if empty:
        counts = ", ".join(f"{len(visits.cases):,} ({name})" for name, visits in found.items())
        raise ConfigError(
            f"visits with an item that is new to somebody who has a history: {counts}; expected some in every window. "
            f"To get them, {'; '.join(_REMEDIES[name] for name in empty)}"
        )
