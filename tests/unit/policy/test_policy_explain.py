"""The evidence behind a slate, on worlds whose answer is known by eye."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.policy.covisit import Successors
from retrank.policy.explain import Evidence, cosines, follows, similar

SUCCESSORS = Successors(
    items=np.array([[0, 0], [2, 3], [3, 0], [0, 0]], dtype=np.int32),  # 1 -> 2, 3; 2 -> 3
    weights=np.array([[0, 0], [4, 1], [5, 0], [0, 0]], dtype=np.float32),
)
VECTORS = np.array([[0, 0], [1, 0], [2, 0], [0, 1]], dtype=np.float32)  # 1 and 2 point the same way, 3 does not


def test_the_event_with_the_strongest_link_is_named() -> None:
    found = follows(np.array([3]), np.array([1, 2]), SUCCESSORS)
    assert found.anchors.tolist() == [2]
    assert found.weights.tolist() == [1.0]


def test_an_item_that_follows_nothing_in_the_history_has_no_anchor() -> None:
    found = follows(np.array([1]), np.array([1, 2]), SUCCESSORS)
    assert (found.anchors.tolist(), found.weights.tolist()) == ([0], [0.0])


def alike(slate: list[int], history: list[int]) -> Evidence:
    rows = np.array(slate, dtype=np.int64), np.array(history, dtype=np.int64)
    return similar(*rows, *(VECTORS[one] for one in rows))


def test_similarity_is_a_cosine_whatever_the_lengths() -> None:
    found = alike([2, 3], [1])
    assert found.anchors.tolist() == [1, 0]
    assert found.weights.tolist() == [1.0, 0.0]


def test_of_equal_evidence_the_newest_event_wins() -> None:
    assert alike([2], [1, 2, 1]).anchors.tolist() == [1]
    assert alike([1], [1, 2]).anchors.tolist() == [2]


def test_without_a_history_there_is_no_evidence() -> None:
    nobody = np.empty(0, dtype=np.int64)
    assert alike([1, 2], []).anchors.tolist() == [0, 0]
    assert follows(np.array([1, 2]), nobody, SUCCESSORS).anchors.tolist() == [0, 0]


def test_a_zero_vector_is_similar_to_nothing() -> None:
    assert cosines(VECTORS[:1], VECTORS[1:]).tolist() == [[0.0, 0.0, 0.0]]


def test_that_an_item_was_seen_before_is_no_reason_for_it() -> None:
    found = alike([1], [2, 1])
    assert (found.anchors.tolist(), found.weights.tolist()) == ([2], [1.0])


@given(seed=st.integers(0, 10_000), length=st.integers(1, 20), size=st.integers(0, 8))
def test_the_event_an_item_follows_is_found_by_the_plain_loop(seed: int, length: int, size: int) -> None:
    random = np.random.default_rng(seed)
    weights = -np.sort(-random.integers(0, 4, (13, 4)), axis=1).astype(np.float32)
    lists = Successors(np.array([random.permutation(12)[:4] + 1 for _ in range(13)], np.int32) * (weights > 0), weights)
    history, slate = random.integers(1, 13, length), random.permutation(12)[:size] + 1
    anchors, strengths = [], []
    for item in slate.tolist():
        best, strength = 0, 0.0
        for anchor in history[::-1].tolist():  # the newest first
            shares = dict(
                zip(lists.items[anchor].tolist(), (weights[anchor] / max(weights[anchor][0], 1)), strict=True)
            )
            if shares.get(item, 0.0) > strength:
                best, strength = anchor, shares[item]
        anchors.append(best)
        strengths.append(strength)
    found = follows(slate, history, lists)
    assert found.anchors.tolist() == anchors
    assert found.weights.tolist() == pytest.approx(strengths)
