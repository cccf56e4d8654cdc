"""The fast orders of events against NumPy's lexsort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.data.ordering import order_by_user, order_within_users, user_offsets

EVENTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 20)), min_size=1, max_size=60)


def sort(users: list[int], times: list[int]) -> tuple[list[int], list[int]]:
    user_rows = np.array(users, dtype=np.int32)
    order = order_by_user(user_rows)
    ordered_times = np.array(times, dtype=np.int64)[order]
    order_within_users(order, ordered_times, user_offsets(user_rows, max(users)))
    return order.tolist(), ordered_times.tolist()


@given(EVENTS, st.sampled_from([1, 1_000, 1_000_000, 10**14]))
def test_order_is_user_then_time_then_original_order(events: list[tuple[int, int]], unit: int) -> None:
    users, times = [user for user, _ in events], [time * unit for _, time in events]
    expected = np.lexsort((times, users))
    order, ordered_times = sort(users, times)
    assert order == expected.tolist()
    assert ordered_times == np.array(times)[expected].tolist()


@pytest.mark.parametrize("span", [10**9, 10**15])
def test_order_holds_across_many_blocks(span: int) -> None:
    generator = np.random.default_rng(0)
    users = generator.integers(1, 3_000, 700_000).tolist()
    times = generator.integers(0, span, 700_000).tolist()
    assert sort(users, times)[0] == np.lexsort((times, users)).tolist()


def test_one_user_may_be_longer_than_a_block() -> None:
    times = np.random.default_rng(1).integers(0, 50, 600_000).tolist()
    assert sort([1] * 600_000, times)[0] == np.argsort(times, kind="stable").tolist()


def test_offsets_give_users_without_events_an_empty_range() -> None:
    assert user_offsets(np.array([3, 1, 3], dtype=np.int32), 4).tolist() == [0, 1, 1, 3, 3]
