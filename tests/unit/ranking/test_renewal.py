"""Counts as of the request: they know everything before the last renewal and nothing later."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranked_world import SETTINGS, ActingEncoder

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.training.ranking.renewal import renewals
from retrank.training.ranking.sources import Sources
from retrank.training.scorer import ModelScorer

HOUR = 3_600_000_000
DAY = 24 * HOUR
NUM_ITEMS = 50
# Three people; item 40 appears on day 10, item 41 on day 12, after training ended on day 8.
EVENTS = Sequences.from_lists(
    [[1, 2, 40], [2, 3, 40, 41], [1, 3]],
    [[0, DAY, 10 * DAY], [DAY, 2 * DAY, 10 * DAY + HOUR, 12 * DAY], [3 * DAY, 7 * DAY]],
    [[0, 0, 0], [0, 0, 0, 0], [0, 0]],
)
TRAIN = EVENTS.slices(np.array([0, 3, 7]), np.array([2, 5, 9]))
END = 8 * DAY


def _asked(days: list[float]) -> Sequences:
    """User 3 asks again and again."""
    history = EVENTS.take(np.full(len(days), 2))
    return replace(history, asked_at=(np.array(days) * DAY).astype(np.int64))


def _sources(hours: float | None) -> Sources:
    settings = replace(SETTINGS, numbers=(), half_life_days=1.0, refresh_hours=hours)
    renewed = renewals(EVENTS, END, hours)
    return Sources(ModelScorer(ActingEncoder()), TRAIN, NUM_ITEMS, settings, {}, renewed=renewed)


def _popularity(sources: Sources, days: list[float], item: int) -> list[bool]:
    return [bool(request.facts.popularity[item] > 0) for request in sources.requests(_asked(days))]


def test_without_renewals_what_appeared_later_is_never_known() -> None:
    assert _popularity(_sources(None), [9, 11, 13], 40) == [False] * 3


def test_a_renewal_knows_what_happened_before_it() -> None:
    days = [9.0, 10.5, 11.5, 12.5, 13.5]
    assert _popularity(_sources(24), days, 40) == [False, False, True, True, True]
    assert _popularity(_sources(24), days, 41) == [False, False, False, False, True]


def test_the_more_often_the_earlier() -> None:
    assert _popularity(_sources(1), [10.01, 10.06], 40) == [False, True]
    assert _popularity(_sources(48), [11.9, 12.1], 40) == [False, True]


def test_what_is_new_is_proposed_as_popular_and_as_fresh() -> None:
    (request,) = _sources(24).requests(_asked([13.5]))
    place = int(np.flatnonzero(request.merged.rows == 41)[0])
    sources = list(SETTINGS.limits)
    ranks = request.merged.ranks[place]
    assert ranks[sources.index("popular")] <= SETTINGS.limits["popular"]
    assert ranks[sources.index("fresh")] <= SETTINGS.limits["fresh"]


def test_the_facts_of_the_sources_themselves_stay_those_of_training() -> None:
    sources = _sources(24)
    list(sources.requests(_asked([13.5])))
    assert sources.facts.popularity[40] == 0


@given(
    events=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 500)), min_size=1, max_size=40),
    since=st.integers(0, 400),
    hours=st.integers(1, 60),
    moment=st.integers(0, 600),
)
def test_nothing_is_known_that_happens_at_or_after_the_request(
    events: list[tuple[int, int]], since: int, hours: int, moment: int
) -> None:
    """And nothing is missing that is older than one period."""
    ordered = sorted(events, key=lambda event: event[1])
    histories = Sequences.from_lists([[item for item, _ in ordered]], [[hour * HOUR for _, hour in ordered]])
    renewed = renewals(histories, since * HOUR, float(hours))
    assert renewed is not None
    number = renewed.number(moment * HOUR)
    known = renewed.known_at(number)
    assert known.times is not None
    limit = max(moment, since)
    assert all(time < limit * HOUR for time in known.times.tolist())
    sure = [hour for _, hour in ordered if hour < max(since, moment - hours)]
    assert len(known.item_rows) >= len(sure)


@pytest.mark.parametrize("hours", [0.0, -1.0])
def test_hours_that_never_pass_are_refused(hours: float) -> None:
    with pytest.raises(ConfigError, match="refresh_hours"):
        replace(SETTINGS, refresh_hours=hours)
