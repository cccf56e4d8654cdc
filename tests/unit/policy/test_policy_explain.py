"""The evidence behind a slate, on worlds whose answer is known by eye."""

import numpy as np

from retrank.policy.covisit import Successors
from retrank.policy.explain import cosines, follows, similar

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


def test_similarity_is_a_cosine_whatever_the_lengths() -> None:
    found = similar(np.array([2, 3]), np.array([1]), VECTORS)
    assert found.anchors.tolist() == [1, 0]
    assert found.weights.tolist() == [1.0, 0.0]


def test_of_equal_evidence_the_newest_event_wins() -> None:
    assert similar(np.array([2]), np.array([1, 2, 1]), VECTORS).anchors.tolist() == [1]
    assert similar(np.array([1]), np.array([1, 2]), VECTORS).anchors.tolist() == [2]


def test_without_a_history_there_is_no_evidence() -> None:
    nobody = np.empty(0, dtype=np.int64)
    assert similar(np.array([1, 2]), nobody, VECTORS).anchors.tolist() == [0, 0]
    assert follows(np.array([1, 2]), nobody, SUCCESSORS).anchors.tolist() == [0, 0]


def test_a_zero_vector_is_similar_to_nothing() -> None:
    assert cosines(VECTORS[:1], VECTORS[1:]).tolist() == [[0.0, 0.0, 0.0]]


def test_that_an_item_was_seen_before_is_no_reason_for_it() -> None:
    found = similar(np.array([1]), np.array([2, 1]), VECTORS)
    assert (found.anchors.tolist(), found.weights.tolist()) == ([2], [1.0])
