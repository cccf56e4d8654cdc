"""Facts about training histories: counted by hand, and a half-life that is known because the world was made with it."""

import numpy as np
import pytest

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences
from retrank.data.facts import HALF_LIVES_DAYS, facts_of, popularity_half_life

DAY_US = 86_400_000_000


def test_counts_of_a_small_world() -> None:
    facts = facts_of(Sequences.from_lists([[1, 2, 1, 5], [], [2]], times=[[1, 1, 7, 7], [], [3]]))
    assert (facts.num_events, facts.num_users, facts.num_items) == (5, 2, 3)
    assert facts.repeat_share == 0.2
    assert facts.basket_share == pytest.approx(2 / 3, abs=1e-3)


def test_buying_what_was_viewed_repeats_nothing() -> None:
    view, buy = 1, 2
    rows, done = [1, 1, 2, 2, 1], [view, buy, view, buy, view]
    assert facts_of(Sequences.from_lists([rows], actions=[done]), num_actions=2).repeat_share == 0.2
    assert facts_of(Sequences.from_lists([rows])).repeat_share == 0.6


def test_four_of_five_users_are_no_longer_than_a_long_history() -> None:
    lengths = [2, 4, 6, 8, 100]
    facts = facts_of(Sequences.from_lists([[1] * length for length in lengths]))
    assert 8 <= facts.long_history < 100


def test_without_times_nothing_is_said_about_time() -> None:
    facts = facts_of(Sequences.from_lists([[1, 2], [2, 1]]))
    assert facts.basket_share is None
    assert facts.half_life_days is None


def test_actions_are_usual_from_a_hundredth_of_the_events_on() -> None:
    actions = [1] * 90 + [2] * 7 + [3] + [0] * 2
    facts = facts_of(Sequences.from_lists([[1] * 100], actions=[actions]), num_actions=5)
    assert (facts.num_actions, facts.usual_actions) == (5, 3)
    rare = facts_of(Sequences.from_lists([[1] * 200], actions=[[1] * 199 + [2]]), num_actions=2)
    assert rare.usual_actions == 1
    assert facts_of(Sequences.from_lists([[1, 2]])).usual_actions == 0


def test_no_event_is_refused() -> None:
    with pytest.raises(DataError, match="hold no event"):
        facts_of(Sequences.from_lists([[], []]))


def fading(half_life_days: float, num_days: int = 1000) -> Sequences:
    """Each day has its own favourite; the favourites of earlier days are bought half as often per half-life."""
    random = np.random.default_rng(0)
    days = np.repeat(np.arange(num_days), 20)
    ages = np.floor(random.exponential(half_life_days / np.log(2), len(days)))
    items = 1 + np.maximum(days - ages, 0).astype(np.int64)
    return Sequences.from_lists([items.tolist()], times=[(days * DAY_US).tolist()])


def test_popularity_that_never_changes_has_a_long_half_life() -> None:
    random = np.random.default_rng(0)
    items, times = random.integers(1, 20, 4000), np.arange(4000) * (DAY_US // 10)
    steady = Sequences.from_lists([items.tolist()], times=[times.tolist()])
    assert popularity_half_life(steady) >= 100


def test_the_faster_popularity_fades_the_shorter_the_half_life() -> None:
    quick, slow = popularity_half_life(fading(30)), popularity_half_life(fading(1000))
    assert quick < slow
    assert {quick, slow} <= set(HALF_LIVES_DAYS)


def test_events_of_one_moment_say_nothing_about_dating() -> None:
    assert popularity_half_life(Sequences.from_lists([[1, 2, 3]], times=[[5, 5, 5]])) == HALF_LIVES_DAYS[-1]
    assert popularity_half_life(Sequences.from_lists([[1]], times=[[5]])) == HALF_LIVES_DAYS[-1]
