"""Visits: what was known, and what happened then."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.sequences import Sequences
from retrank.data.splits import GlobalTemporal
from retrank.data.visits import event_marks, visits_between

HOUR = 3_600_000_000


def shop() -> Sequences:
    """User 0: items 1 2 | 3 1 3 | 4 at hours 0 1 | 30 31 32 | 60; user 1: 5 at 31, 6 at 33; user 2: 7 at 2, 7 at 40."""
    return Sequences.from_lists(
        [[1, 2, 3, 1, 3, 4], [5, 6], [7, 7]],
        [[hour * HOUR for hour in hours] for hours in ([0, 1, 30, 31, 32, 60], [31, 33], [2, 40])],
    )


def test_visits_begin_in_the_window_and_last_some_hours() -> None:
    histories = shop()
    marks = np.stack([np.ones(10), np.arange(10)], axis=1).astype(np.float32)
    found = visits_between(histories, marks, 24 * HOUR, 100 * HOUR, hours=24)
    assert found.cases.users.tolist() == [0, 0]  # user 1 has no history at 31, user 2 only repeats
    assert [rows.tolist() for rows in found.cases.inputs] == [[1, 2], [1, 2, 3, 1, 3]]
    assert [rows.tolist() for rows in found.cases.targets] == [[3], [4]]
    assert found.cases.inputs.asked_at is not None
    assert found.cases.inputs.asked_at.tolist() == [30 * HOUR, 60 * HOUR]
    assert found.marks.tolist() == [[2, 2 + 4], [1, 5]]  # item 3 was met twice in the visit


def test_a_short_visit_leaves_later_events_to_the_next() -> None:
    found = visits_between(shop(), np.ones((10, 1), dtype=np.float32), 24 * HOUR, 100 * HOUR, hours=1.5)
    assert [rows.tolist() for rows in found.cases.inputs] == [[1, 2], [1, 2, 3, 1, 3], [5]]
    assert [rows.tolist() for rows in found.cases.targets] == [[3], [4], [6]]


def test_an_empty_window_has_no_visits() -> None:
    assert len(visits_between(shop(), np.ones((10, 1), dtype=np.float32), 70 * HOUR, 80 * HOUR).cases) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 8), st.integers(0, 60)), min_size=1, max_size=12), min_size=2, max_size=8
    )
)
def test_one_long_visit_is_a_case_of_the_temporal_split(users: list[list[tuple[int, int]]]) -> None:
    ordered = [sorted(events, key=lambda event: event[1]) for events in users]
    histories = Sequences.from_lists(
        [[item for item, _ in events] for events in ordered],
        [[hour * HOUR for _, hour in events] for events in ordered],
    )
    rule = GlobalTemporal(0.2, 0.2)
    assert histories.times is not None
    if len(np.unique(histories.times)) < 10:
        return  # too few moments to be sure of three windows
    split = rule(histories)
    _, test_at = rule.cuts(histories)
    marks = np.ones((len(histories.item_rows), 1), dtype=np.float32)
    found = visits_between(histories, marks, test_at, 2**62, hours=10_000)
    assert found.cases.users.tolist() == split.test.users.tolist()
    assert [rows.tolist() for rows in found.cases.inputs] == [rows.tolist() for rows in split.test.inputs]
    assert [rows.tolist() for rows in found.cases.targets] == [rows.tolist() for rows in split.test.targets]


def test_marks_follow_the_action() -> None:
    actions = np.array([3, 1, 2, 0])
    assert event_marks(4, actions=actions, chosen=[None, [1, 2]]).tolist() == [[1, 0], [1, 1], [1, 1], [1, 0]]
    assert event_marks(2, actions=None, chosen=[[1]]).tolist() == [[1], [1]]
