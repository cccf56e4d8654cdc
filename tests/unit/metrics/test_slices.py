import numpy as np

from retrank.metrics.case_ranks import CaseRanks
from retrank.metrics.slices import by_history_length, by_target_popularity, popularity_groups

RANKS = CaseRanks(
    users=np.arange(3),
    offsets=np.array([0, 1, 2, 4]),
    targets=np.array([1, 2, 3, 4], dtype=np.int32),
    ranks=np.array([1, 11, 2, 12], dtype=np.int32),
    num_items=4,
)


def test_cases_are_sliced_by_the_length_of_their_history() -> None:
    slices = by_history_length(RANKS, np.array([0, 12, 900]))
    assert [(piece.label, piece.count, piece.hr) for piece in slices] == [("0", 1, 1), ("10-19", 1, 0), ("200+", 1, 1)]


def test_targets_are_sliced_by_their_popularity_each_on_its_own() -> None:
    slices = by_target_popularity(RANKS, np.array([0, 50, 30, 20, 0]))
    assert [(piece.label, piece.count, piece.hr) for piece in slices] == [
        ("head", 1, 1),
        ("middle", 1, 0),
        ("tail", 1, 1),
        ("untrained", 1, 0),
    ]


def test_head_middle_and_tail_hold_a_third_of_the_events_each() -> None:
    counts = np.array([0, 2, 2, 2, 3, 3, 6, 0])
    assert popularity_groups(counts).tolist() == [3, 2, 2, 2, 1, 1, 0, 3]
