import numpy as np
import pytest

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.popularity import DecayedPopularity, Popularity

DAY = 86_400_000_000


def test_popularity_counts_events() -> None:
    scorer = Popularity()
    scorer.fit(Sequences.from_lists([[1, 3], [3], []]), 4)
    assert scorer.item_scores.tolist() == [0, 1, 0, 2, 0]
    assert scorer.score(Sequences.from_lists([[], [2]])).tolist() == [[0, 1, 0, 2, 0]] * 2


def test_an_event_of_one_half_life_ago_counts_half() -> None:
    scorer = DecayedPopularity(half_life_days=2)
    scorer.fit(Sequences.from_lists([[1, 2], [2, 3]], times=[[0, 2 * DAY], [2 * DAY, 4 * DAY]]), 3)
    assert scorer.item_scores.tolist() == [0, 0.25, 1, 1]


def test_what_sold_lately_beats_what_sold_more_long_ago() -> None:
    histories = Sequences.from_lists([[1, 1, 1, 2]], times=[[0, 1, 2, 365 * DAY]])
    scorer = DecayedPopularity(half_life_days=30)
    scorer.fit(histories, 2)
    assert scorer.item_scores.argmax() == 2


def test_decay_needs_times() -> None:
    with pytest.raises(DataError, match="needs event times"):
        DecayedPopularity().fit(Sequences.from_lists([[1]]), 1)


def test_a_half_life_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="half_life_days is 0"):
        DecayedPopularity(half_life_days=0)


def test_no_events_at_all_score_zero() -> None:
    scorer = DecayedPopularity()
    scorer.fit(Sequences.from_lists([[]], times=[[]]), 2)
    assert scorer.item_scores.tolist() == [0, 0, 0]
    assert scorer.item_scores.dtype == np.float32
