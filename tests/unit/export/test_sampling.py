"""Histories drawn for parity, index queries and golden requests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.sequences import Sequences
from retrank.export.sampling import sample_histories

HISTORIES = Sequences.from_lists([[], [1, 2, 3, 4, 5, 6], [7], [8, 9]])


def _sample(count: int, max_length: int, seed: int = 0) -> list[list[int]]:
    return [rows.tolist() for rows in sample_histories(HISTORIES, count, max_length, np.random.default_rng(seed))]


def test_the_corners_are_always_among_them() -> None:
    sample = _sample(3, 4)
    assert sample[0] == []
    assert len(sample[1]) == 1
    assert sample[2] == [3, 4, 5, 6]


@given(st.integers(1, 9), st.integers(0, 99))
def test_every_history_is_a_run_of_one_user_that_the_model_can_read(max_length: int, seed: int) -> None:
    runs = {
        tuple(rows[a:b])
        for rows in HISTORIES
        for b in range(len(rows) + 1)
        for a in range(max(0, b - max_length), b + 1)
    }
    assert {tuple(rows) for rows in _sample(50, max_length, seed)} <= runs


def test_short_and_long_histories_both_occur() -> None:
    lengths = {len(rows) for rows in _sample(300, 6)}
    assert lengths == {0, 1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_draws_the_same(seed: int) -> None:
    assert _sample(20, 5, seed) == _sample(20, 5, seed)
    assert _sample(20, 5, seed) != _sample(20, 5, seed + 7)
