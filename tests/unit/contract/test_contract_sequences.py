"""Histories as flat columns: what goes in comes out, whichever way it is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences

histories = st.lists(st.lists(st.integers(1, 99), max_size=8), max_size=8)


def _lists(sequences: Sequences) -> list[list[int]]:
    return [rows.tolist() for rows in sequences]


def test_a_known_table_reads_back_user_by_user() -> None:
    sequences = Sequences.from_lists([[3, 1], [], [2, 2, 5]], times=[[10, 20], [], [1, 2, 3]])
    assert len(sequences) == 3
    assert sequences.lengths.tolist() == [2, 0, 3]
    assert sequences.of(2).tolist() == [2, 2, 5]
    assert sequences.of(1).tolist() == []
    assert sequences.item_rows.dtype == np.int32
    assert sequences.offsets.dtype == np.int64


@given(histories)
def test_lists_survive_the_round_trip(lists: list[list[int]]) -> None:
    assert _lists(Sequences.from_lists(lists)) == lists


@given(histories.filter(bool), st.data())
def test_take_equals_picking_lists(lists: list[list[int]], data: st.DataObject) -> None:
    users = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=6))
    times = [[10 * row for row in rows] for rows in lists]
    actions = [[row % 3 for row in rows] for rows in lists]
    taken = Sequences.from_lists(lists, times, actions).take(np.array(users, dtype=np.int64))
    assert _lists(taken) == [lists[user] for user in users]
    assert taken.times is not None
    assert taken.times.tolist() == [time for user in users for time in times[user]]
    assert taken.actions is not None
    assert taken.actions.tolist() == [action for user in users for action in actions[user]]
    assert taken.actions.dtype == np.int16


@given(st.lists(st.integers(1, 99), max_size=12), st.data())
def test_slices_equal_slicing_the_flat_column(flat: list[int], data: st.DataObject) -> None:
    bounds = st.tuples(st.integers(0, len(flat)), st.integers(0, len(flat))).map(sorted)
    pairs = data.draw(st.lists(bounds, max_size=6))
    starts, stops = np.array([a for a, _ in pairs], np.int64), np.array([b for _, b in pairs], np.int64)
    assert _lists(Sequences.from_lists([flat]).slices(starts, stops)) == [flat[a:b] for a, b in pairs]


@pytest.mark.parametrize(
    ("item_rows", "offsets", "times", "message"),
    [
        ([1, 2], [0, 3], None, "offsets end at 3 but there are 2 events"),
        ([1, 2], [], None, "offsets end at nothing"),
        ([1, 2], [0, 2], [1], "1 times for 2 events"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    item_rows: list[int], offsets: list[int], times: list[int] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Sequences(
            np.array(item_rows, np.int32), np.array(offsets, np.int64), None if times is None else np.array(times)
        )


def test_every_event_needs_its_action_or_none_has_one() -> None:
    with pytest.raises(DataError, match="1 actions for 2 events"):
        Sequences.from_lists([[1, 2]], actions=[[3]])
