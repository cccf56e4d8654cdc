"""What is predicted after an event, on histories small enough to read."""

import numpy as np
import pytest
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.data.batches import Batches
from retrank.data.targets import LaterBaskets, NextEvent

DAY = 86_400_000_000
#                        basket 1      | basket 2  | basket 3
HISTORY = Sequences.from_lists([[1, 2, 1, 3, 4]], times=[[0, 0, DAY, DAY, 2 * DAY]])


def choose(rule: LaterBaskets, histories: Sequences, events: list[int], seed: int = 0) -> NDArray[np.int64]:
    return rule.prepare(histories).choose(np.array(events), np.random.default_rng(seed))


def test_next_event_is_the_successor_within_a_history() -> None:
    chooser = NextEvent().prepare(Sequences.from_lists([[5, 6], [], [7, 8]]))
    chosen = chooser.choose(np.arange(4), np.random.default_rng(0))
    assert chosen.tolist() == [[1], [-1], [3], [-1]]
    assert chooser.answerable.tolist() == [True, False, True, False]


def test_only_the_last_event_of_a_basket_with_something_new_after_it_is_asked() -> None:
    assert LaterBaskets().prepare(HISTORY).answerable.tolist() == [False, True, False, True, False]


def test_targets_are_first_purchases_of_later_baskets() -> None:
    rule = LaterBaskets(num_targets=50, floor=1.0)
    after_first, after_second = choose(rule, HISTORY, [1, 3])
    assert set(after_first) == {3, 4}  # item 1 comes again at position 2, which is nothing new
    assert set(after_second) == {4}


def test_old_targets_are_kept_less_often_than_new_ones() -> None:
    histories = Sequences.from_lists([[1, 2], [3, 4]], times=[[0, 10 * DAY], [0, 30 * DAY]])
    rule = LaterBaskets(num_targets=20_000, half_life_days=20, floor=0.2)
    old, new = (choose(rule, histories, [0, 2]) >= 0).mean(axis=1)
    assert new == 1.0
    assert old == pytest.approx(0.2 + 0.8 * 0.5, abs=0.02)


def test_choices_repeat_with_the_seed() -> None:
    rule = LaterBaskets(num_targets=8, floor=0.5)
    assert np.array_equal(choose(rule, HISTORY, [1], seed=4), choose(rule, HISTORY, [1], seed=4))


def test_batches_hand_over_all_targets_of_a_basket() -> None:
    rule = LaterBaskets(num_targets=3, floor=1.0)
    (batch,) = Batches(HISTORY, batch_size=1, max_length=10, seed=0, targets=rule)
    assert batch.item_rows.tolist() == [[1, 2, 1, 3]]
    assert batch.positions.tolist() == [1, 3]
    first, second = batch.target_rows.tolist()
    assert set(first) <= {3, 4}
    assert second == [4, 4, 4]


def test_hidden_events_leave_targets_alone() -> None:
    histories = Sequences.from_lists([list(range(1, 101))])
    (batch,) = Batches(histories, batch_size=1, max_length=99, seed=0, event_dropout=0.5)
    assert 20 < (batch.item_rows == 0).sum() < 80
    assert batch.target_rows[:, 0].tolist() == list(range(2, 101))


def test_histories_without_times_have_no_baskets() -> None:
    with pytest.raises(DataError, match="need event times"):
        LaterBaskets().prepare(Sequences.from_lists([[1, 2]]))


def test_a_half_life_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="half_life_days > 0"):
        LaterBaskets(half_life_days=0)
