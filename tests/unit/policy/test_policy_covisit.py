"""Co-visitation scores on lists small enough to work out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.policy.covisit import AGE_DECAY, Successors, followers

SUCCESSORS = Successors(
    items=np.array([[0, 0], [2, 3], [3, 0], [0, 0]], dtype=np.int32),  # 1 -> 2, 3; 2 -> 3; 3 -> nothing
    weights=np.array([[0, 0], [4, 1], [5, 0], [0, 0]], dtype=np.float32),
)


def _scored(history: list[int], window: int = 10) -> dict[int, float]:
    rows, scores = followers(np.array(history), SUCCESSORS, window=window)
    return dict(zip(rows.tolist(), scores.tolist(), strict=True))


def test_the_strongest_follower_of_a_single_event_scores_one() -> None:
    assert _scored([1]) == pytest.approx({2: 1.0, 3: 0.25})


def test_newer_events_count_more() -> None:
    newest, oldest = 1 / 1.7, 0.7 / 1.7
    assert _scored([1, 2]) == pytest.approx({2: oldest, 3: oldest * 0.25 + newest})


def test_events_outside_the_window_do_not_count() -> None:
    assert _scored([1, 2], window=1) == pytest.approx({3: 1.0})


def test_an_item_nobody_went_on_from_has_no_followers() -> None:
    assert _scored([3]) == {}


@given(history=st.lists(st.integers(1, 3), min_size=1, max_size=30), window=st.integers(1, 40))
def test_scores_lie_between_zero_and_one(history: list[int], window: int) -> None:
    assert all(0 <= score <= 1 + 1e-6 for score in _scored(history, window).values())


@given(seed=st.integers(0, 10_000), length=st.integers(1, 20), window=st.integers(1, 12))
def test_scores_are_the_plain_loop(seed: int, length: int, window: int) -> None:
    random = np.random.default_rng(seed)
    weights = -np.sort(-random.integers(0, 6, (13, 4)), axis=1).astype(np.float32)
    lists = Successors(np.array([random.permutation(12)[:4] + 1 for _ in range(13)], np.int32) * (weights > 0), weights)
    history = random.integers(1, 13, length)
    expected: dict[int, float] = {}
    ages = range(min(window, length))
    for age in ages:
        anchor = history[-1 - age]
        for row, weight in zip(lists.items[anchor].tolist(), weights[anchor].tolist(), strict=True):
            if row:
                share = weight / weights[anchor][0] * AGE_DECAY**age / sum(AGE_DECAY**one for one in ages)
                expected[row] = expected.get(row, 0.0) + share
    rows, scores = followers(history, lists, window=window)
    assert rows.tolist() == sorted(expected)
    assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
