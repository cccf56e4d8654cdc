"""The one encoding that training, export and serving share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.encode import pad_left
from retrank.contract.sequences import Sequences


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
    assert pad_left(Sequences.from_lists(histories), max_length).tolist() == expected


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=6), st.integers(1, 10))
def test_padding_equals_the_plain_loop(histories: list[list[int]], max_length: int) -> None:
    encoded = pad_left(Sequences.from_lists(histories), max_length)
    width = max(1, *(min(len(rows), max_length) for rows in histories), 1)
    expected = [[0] * (width - len(rows[-max_length:])) + rows[-max_length:] for rows in histories]
    assert encoded.dtype == np.int64
    assert encoded.tolist() == expected


def test_no_history_at_all_gives_no_rows() -> None:
    assert pad_left(Sequences.from_lists([]), 5).shape == (0, 1)
