"""What the page of `chaos_swap.py` compares: requests due during an order with those of the pauses between."""

import numpy as np
import pytest
from stress.swap_load import Tally
from stress.swap_page import SETTLE_S, Findings, Order

ORDERS = [Order("activate", 10.0, 4.0), Order("activate", 20.0, 4.0), Order("rollback", 30.0, 0.5)]


def _findings(slow_during: float, slower_after: float = 1.0) -> Findings:
    """A request every 10 ms for 40 s; orders make them slower, and so does the machine from 18 s on."""
    due = np.arange(0, 40, 0.01)
    found = Findings(100.0, Tally(started=0.0), ORDERS, 1, 1)
    inside = found.within_an_order(due.tolist())
    took = 0.01 * np.where(inside, slow_during, 1.0) * np.where(due >= 18, slower_after, 1.0)
    found.tally.due_s, found.tally.latencies_s = due.tolist(), took.tolist()
    return found


@pytest.mark.parametrize("due", [10.0, 13.9, 14.0 + SETTLE_S / 2, 30.0, 30.5 + SETTLE_S / 2])
def test_an_order_counts_until_a_moment_after_it_was_carried_out(due: float) -> None:
    assert _findings(1.0).within_an_order([due]).tolist() == [True]


@pytest.mark.parametrize("due", [0.0, 9.99, 14.0 + SETTLE_S, 19.99, 30.5 + SETTLE_S, 39.0])
def test_the_rest_is_a_pause(due: float) -> None:
    assert _findings(1.0).within_an_order([due]).tolist() == [False]


def test_what_orders_cost_is_told_apart_from_pauses() -> None:
    found = _findings(3.0)
    assert found.quantile_ms(0.99, swapping=True) == pytest.approx(30.0)
    assert found.quantile_ms(0.99, swapping=False) == pytest.approx(10.0)
    assert found.each_to_its_pause(0.5) == pytest.approx([3.0, 3.0, 3.0])


def test_a_machine_that_grows_slower_is_slower_for_both() -> None:
    found = _findings(1.0, slower_after=2.0)
    assert found.quantile_ms(0.99, swapping=True) == pytest.approx(found.quantile_ms(0.99, swapping=False))
    assert found.each_to_its_pause(0.99)[2] == pytest.approx(1.0)


def test_without_requests_there_is_nothing_to_say() -> None:
    found = Findings(100.0, Tally(), ORDERS, 1, 1)
    assert np.isnan(found.quantile_ms(0.99, swapping=True))
    assert found.each_to_its_pause(0.99) == []
