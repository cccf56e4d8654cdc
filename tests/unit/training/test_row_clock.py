"""Averages that catch up when a row is touched equal averages that move at every step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrank.training.row_clock import Decays, RowClock

CPU = torch.device("cpu")


@given(st.floats(0, 0.9999), st.integers(0, 3_000), st.integers(0, 3_000))
def test_the_share_kept_over_steps_is_the_product_of_each(decay: float, first: int, more: int) -> None:
    decays = Decays(decay)
    expected = math.prod(decays.at(step) for step in range(first + 1, first + more + 1))
    found = decays.over(torch.tensor([first], dtype=torch.int32), first + more)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-30)


def test_many_steps_keep_their_precision() -> None:
    decays = Decays(0.999)
    assert decays.over(torch.tensor(10_000_000), 10_001_000).item() == pytest.approx(0.999**1000, rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.9, 0.999])
@pytest.mark.parametrize("start", [0, 20_000])
def test_it_equals_the_average_that_moves_at_every_step(decay: float, start: int) -> None:
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(50, 4, generator=random)
    every_step, caught_up = weights.clone().mul_(1.5), weights.clone().mul_(1.5)
    decays = Decays(decay)
    clock = RowClock(50, start, decays, CPU)
    for step in range(start + 1, start + 301):
        rows = torch.randperm(50, generator=random)[: step % 4]  # in every fourth step none
        clock.catch_up(caught_up, weights, step - 1, rows)
        weights[rows] += torch.randn(len(rows), 4, generator=random)
        every_step.lerp_(weights, 1 - decays.at(step))
        if step % 100 == 0:
            clock.catch_up(caught_up, weights, step)
            torch.testing.assert_close(caught_up, every_step, atol=1e-5, rtol=1e-5)


def test_catching_up_twice_changes_nothing() -> None:
    weights, average = torch.randn(5, 2), torch.randn(5, 2)
    clock = RowClock(5, 0, Decays(0.9), CPU)
    clock.catch_up(average, weights, 7)
    once = average.clone()
    clock.catch_up(average, weights, 7)
    assert torch.equal(average, once)
