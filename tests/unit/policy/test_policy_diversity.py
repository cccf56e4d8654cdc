"""Variety: what MMR and caps promise, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.policy.diversity import Caps, Mmr, Plain, Variety, scaled
from retrank.policy.exploration import Greedy, fill

RNG = np.random.default_rng(0)


def _order(variety: Variety, k: int) -> list[int]:
    positions: list[int] = fill(variety, Greedy(), k, RNG).positions.tolist()
    return positions


def test_mmr_puts_a_less_relevant_but_different_item_before_a_twin() -> None:
    scores = np.array([1.0, 0.95, 0.5, 0.0])
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    assert _order(Mmr(scores, vectors, 0.0), 3) == [0, 1, 2]
    assert _order(Mmr(scores, vectors, 0.5), 3) == [0, 2, 1]


def _mmr_by_hand(scores: np.ndarray, vectors: np.ndarray, strength: float, k: int) -> list[int]:
    relevance = scaled(scores)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen: list[int] = []
    while len(chosen) < k:
        worth = {
            one: (1 - strength) * relevance[one]
            - strength * max((float(unit[one] @ unit[other]) for other in chosen), default=0.0)
            for one in range(len(scores))
            if one not in chosen
        }
        chosen.append(max(worth, key=lambda one: (round(worth[one], 6), -one)))
    return chosen


@given(seed=st.integers(0, 10_000), size=st.integers(1, 12), strength=st.floats(0, 1))
def test_mmr_is_its_definition(seed: int, size: int, strength: float) -> None:
    random = np.random.default_rng(seed)
    scores, vectors = random.normal(size=size), random.normal(size=(size, 3)).astype(np.float32)
    order = _order(Mmr(scores, vectors, strength), size)
    assert sorted(order) == list(range(size))
    if strength < 0.99:  # at 1 relevance no longer decides between equally different items
        assert order[:3] == _mmr_by_hand(scores, vectors, strength, min(3, size))


@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), cap=st.integers(1, 4), k=st.integers(1, 10))
def test_no_group_exceeds_its_cap_while_others_are_left(seed: int, size: int, cap: int, k: int) -> None:
    random = np.random.default_rng(seed)
    scores, groups = random.normal(size=size), random.integers(0, 4, size)
    order = _order(Caps(scores, {"brand": groups}, {"brand": cap}), k)
    assert len(set(order)) == len(order) == min(k, size)
    free = int((groups == 0).sum()) + sum(min(cap, int((groups == group).sum())) for group in (1, 2, 3))
    held = order[: min(free, k)]
    assert all(sum(groups[one] == group for one in held) <= cap for group in (1, 2, 3))


def test_a_slate_that_caps_would_leave_short_is_filled_all_the_same() -> None:
    same = {"brand": np.array([1, 1, 1])}
    assert _order(Caps(np.array([0.1, 0.3, 0.2]), same, {"brand": 1}), 3) == [1, 2, 0]


def test_two_caps_hold_at_once() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    groups = {"brand": np.array([1, 1, 2, 2, 3]), "colour": np.array([1, 2, 1, 2, 0])}
    assert _order(Caps(scores, groups, {"brand": 1, "colour": 1}), 3) == [0, 3, 4]


@pytest.mark.parametrize("scores", [[], [2.0], [3.0, 3.0]])
def test_scores_without_a_spread_scale_to_zero(scores: list[float]) -> None:
    assert scaled(np.array(scores)).tolist() == [0.0] * len(scores)


def test_plain_scores_stay_what_they_are() -> None:
    assert _order(Plain(np.array([0.2, 0.9, 0.9])), 3) == [1, 2, 0]
