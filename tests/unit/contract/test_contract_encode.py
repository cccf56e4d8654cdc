"""The one encoding that training, export and serving share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.encode import (
    ACTIONS,
    AGES,
    CONTEXT_ROWS,
    ITEM_ROWS,
    asked_now,
    encode,
    encode_one,
    encode_windows,
    real_places,
)
from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences

SECOND = 1_000_000


def _rows(histories: list[list[int]], max_length: int) -> NDArray[np.int64]:
    return encode(Sequences.from_lists(histories), (ITEM_ROWS,), max_length)[ITEM_ROWS]


@pytest.mark.parametrize(
    ("histories", "max_length", "expected"),
    [
        ([[1, 2, 3]], 3, [[1, 2, 3]]),
        ([[1, 2, 3]], 2, [[2, 3]]),
        ([[1], [2, 3]], 9, [[0, 1], [2, 3]]),
        ([[], [4]], 9, [[0], [4]]),
        ([[]], 9, [[0]]),
        ([[], []], 1, [[0], [0]]),
        ([[5, 6, 7], [8]], 1, [[7], [8]]),
    ],
)
def test_the_newest_events_stand_at_the_right(
    histories: list[list[int]], max_length: int, expected: list[list[int]]
) -> None:
    assert _rows(histories, max_length).tolist() == expected


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=6), st.integers(1, 10))
def test_padding_equals_the_plain_loop(histories: list[list[int]], max_length: int) -> None:
    encoded = _rows(histories, max_length)
    width = max(1, *(min(len(rows), max_length) for rows in histories), 1)
    expected = [[0] * (width - len(rows[-max_length:])) + rows[-max_length:] for rows in histories]
    assert encoded.dtype == np.int64
    assert encoded.tolist() == expected


def test_no_history_at_all_gives_no_rows() -> None:
    assert _rows([], 5).shape == (0, 1)


def test_ages_count_whole_seconds_back_from_the_moment_asked_about() -> None:
    times = [[0, 7 * SECOND + 1, 9 * SECOND], [5 * SECOND]]
    histories = Sequences.from_lists([[1, 2, 3], [4]], times)
    encoded = encode(replace(histories, asked_at=np.array([10, 65]) * SECOND), (ITEM_ROWS, AGES), 2)
    assert encoded[ITEM_ROWS].tolist() == [[2, 3], [0, 4]]
    assert encoded[AGES].tolist() == [[2, 1], [0, 60]]


def test_without_a_moment_the_newest_event_is_now() -> None:
    histories = Sequences.from_lists([[1, 2], [], [3]], [[0, 4 * SECOND], [], [9 * SECOND]])
    assert encode(histories, (AGES,), 5)[AGES].tolist() == [[4, 0], [0, 0], [0, 0]]


def test_an_event_after_the_moment_asked_about_is_not_older_than_now() -> None:
    histories = replace(Sequences.from_lists([[1]], [[9 * SECOND]]), asked_at=np.array([0]))
    assert encode(histories, (AGES,), 5)[AGES].tolist() == [[0]]


def test_ages_without_times_are_refused() -> None:
    with pytest.raises(DataError, match=r"the histories have no times; set model\.time_bias=false"):
        encode(Sequences.from_lists([[1]]), (ITEM_ROWS, AGES), 5)


def test_actions_stand_beside_their_events_and_padding_has_none() -> None:
    histories = Sequences.from_lists([[1, 2, 3], [4], []], actions=[[1, 0, 2], [3], []])
    encoded = encode(histories, (ITEM_ROWS, ACTIONS), 2)
    assert encoded[ACTIONS].dtype == np.int64
    assert encoded[ACTIONS].tolist() == [[0, 2], [0, 3], [0, 0]]


def test_actions_that_nobody_knows_are_refused() -> None:
    with pytest.raises(DataError, match=r"the histories have no actions; set model\.num_actions=0"):
        encode(Sequences.from_lists([[1]]), (ITEM_ROWS, ACTIONS), 5)


def test_a_request_without_actions_has_unknown_ones() -> None:
    rows, ages = np.array([7, 8]), np.array([60, 0])
    assert encode(asked_now(rows, ages), (ACTIONS,), 5)[ACTIONS].tolist() == [[0, 0]]
    assert encode(asked_now(rows, ages, np.array([2, 1])), (ACTIONS,), 5)[ACTIONS].tolist() == [[2, 1]]


def test_a_request_is_encoded_by_rows_and_ages() -> None:
    asked = asked_now(np.array([7, 8]), np.array([60, 0]))
    encoded = encode(asked, (ITEM_ROWS, AGES), 5)
    assert (encoded[ITEM_ROWS].tolist(), encoded[AGES].tolist()) == ([[7, 8]], [[60, 0]])


def test_moments_follow_their_histories() -> None:
    histories = replace(Sequences.from_lists([[1], [2], [3]]), asked_at=np.array([10, 20, 30]))
    taken = histories.take(np.array([2, 0]))
    assert taken.asked_at is not None
    assert taken.asked_at.tolist() == [30, 10]
    with pytest.raises(DataError, match="2 moments asked about for 3 users"):
        replace(histories, asked_at=np.array([1, 2]))


@given(
    events=st.lists(st.tuples(st.integers(1, 99), st.integers(0, 1 << 30), st.integers(0, 5)), min_size=1, max_size=9),
    max_length=st.integers(1, 10),
)
def test_one_history_is_encoded_like_many(events: list[tuple[int, int, int]], max_length: int) -> None:
    rows, ages, actions = np.array(events, dtype=np.int64).T
    inputs, context = (ITEM_ROWS, AGES, ACTIONS, CONTEXT_ROWS), np.array([3, 0])
    found, expected = (
        encode_one(rows, ages, actions, context, inputs, max_length),
        encode(asked_now(rows, ages, actions, context), inputs, max_length),
    )
    assert list(found) == list(expected)
    for name in inputs:
        assert found[name].dtype == np.int64
        assert found[name].tolist() == expected[name].tolist()


def _in_context(asked_in: NDArray[np.int32] | None = None) -> Sequences:
    contexts = np.array([[1, 7], [2, 7], [3, 0], [4, 5]], dtype=np.int32)
    return replace(Sequences.from_lists([[1, 2, 3], [4], []]), contexts=contexts, asked_in=asked_in)


def test_the_context_is_that_of_the_moment_asked_about() -> None:
    asked = np.array([[9, 9], [0, 8], [7, 0]], dtype=np.int32)
    encoded = encode(_in_context(asked_in=asked), (ITEM_ROWS, CONTEXT_ROWS), 2)[CONTEXT_ROWS]
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [[[9, 9]], [[0, 8]], [[7, 0]]]


def test_without_a_moment_the_context_is_that_of_the_newest_event() -> None:
    assert encode(_in_context(), (CONTEXT_ROWS,), 2)[CONTEXT_ROWS].tolist() == [[[3, 0]], [[4, 5]], [[0, 0]]]


def test_inside_a_window_every_place_is_asked_about_in_the_context_of_the_next_event() -> None:
    real = real_places(np.array([2, 1]))
    found = encode_windows(_in_context(), np.array([2, 2]), real, (ITEM_ROWS, CONTEXT_ROWS))
    assert found[ITEM_ROWS].tolist() == [[1, 2], [0, 2]]
    assert found[CONTEXT_ROWS].tolist() == [[[2, 7], [3, 0]], [[0, 0], [3, 0]]]


def test_a_context_that_nobody_knows_is_refused() -> None:
    with pytest.raises(DataError, match=r"the histories have none; open the store as the run was trained"):
        encode(Sequences.from_lists([[1]]), (ITEM_ROWS, CONTEXT_ROWS), 5)


def test_contexts_follow_their_histories() -> None:
    taken = _in_context(asked_in=np.array([[1, 1], [2, 2], [3, 3]], dtype=np.int32)).take(np.array([1, 0]))
    assert taken.contexts is not None
    assert taken.contexts.tolist() == [[4, 5], [1, 7], [2, 7], [3, 0]]
    assert taken.asked_in is not None
    assert taken.asked_in.tolist() == [[2, 2], [1, 1]]
    with pytest.raises(DataError, match="1 contexts for 4 events"):
        replace(_in_context(), contexts=np.zeros((1, 2), dtype=np.int32))
