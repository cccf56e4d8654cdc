"""The pool of negatives: who is in it, and that each item of the catalogue counts once on average."""

import math

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.losses.negatives import NegativePool

TARGETS = torch.tensor([[3, 0], [3, 5], [1, 5]])


def pool(num_uniform: int, num_in_batch: int, rate: float = 0.01) -> NegativePool:
    return NegativePool(num_uniform=num_uniform, num_in_batch=num_in_batch, frequency_rate=rate)


def test_uniform_draws_have_one_count_for_all() -> None:
    rows, log_counts, target_log_counts = pool(20, 0)(TARGETS, 50)
    assert len(rows) == 20
    assert rows.min() >= 1
    assert rows.max() <= 50
    assert torch.cat([log_counts, target_log_counts.flatten()]).tolist() == pytest.approx([math.log(20 / 50)] * 26)


def test_in_batch_negatives_are_the_distinct_targets() -> None:
    torch.manual_seed(0)
    negatives = pool(0, 10)
    negatives(torch.tensor([[4]]), 6)
    rows, log_counts, target_log_counts = negatives(TARGETS, 6)
    assert rows.tolist() == [1, 3, 5]
    assert log_counts.exp().tolist() == pytest.approx([1 / 2] * 3)  # first seen in the second step
    assert target_log_counts[TARGETS > 0].exp().tolist() == pytest.approx([1 / 2] * 5)


def test_counts_of_both_kinds_add_up() -> None:
    negatives = pool(3, 10)
    negatives(torch.tensor([[1]]), 6)
    rows, log_counts, _ = negatives(torch.tensor([[1], [5]]), 6)
    assert rows[3:].tolist() == [1, 5]
    assert log_counts[3:].exp().tolist() == pytest.approx([3 / 6 + 1, 3 / 6 + 1 / 2])


def test_a_part_of_the_batch_counts_by_its_share() -> None:
    rows, log_counts, _ = pool(0, 2)(torch.arange(1, 9), 20)
    assert len(set(rows.tolist()) & set(range(1, 9))) == 2
    assert log_counts.exp().tolist() == pytest.approx([2 / 8] * 2)


def test_frequencies_are_learned_in_training_only() -> None:
    negatives = pool(0, 10).eval()
    negatives(TARGETS, 6)
    assert negatives.frequency is not None
    assert negatives.frequency.steps == 0
    negatives.train()(TARGETS, 6)
    assert negatives.frequency.steps == 1


@pytest.mark.parametrize(("num_uniform", "num_in_batch"), [(10, 0), (0, 100), (0, 6), (10, 100), (10, 6)])
def test_every_item_counts_once_on_average(num_uniform: int, num_in_batch: int) -> None:
    num_items, warm_up, num_steps = 12, 200, 1500
    popularity = torch.arange(1, num_items + 1).reciprocal()
    torch.manual_seed(0)
    negatives = pool(num_uniform, num_in_batch, rate=0.002)
    weights = torch.zeros(num_steps, num_items + 1)
    for step in range(-warm_up, num_steps):
        rows, log_counts, _ = negatives(torch.multinomial(popularity, 16, replacement=True) + 1, num_items)
        if step >= 0:
            weights[step].index_add_(0, rows, torch.exp(-log_counts))
    mean, deviation = weights[:, 1:].mean(0), weights[:, 1:].std(0)
    # the estimate of an item's frequency errs by its first gaps: one more error of the size of the mean's
    assert ((mean - 1).abs() < 4 * (2 / num_steps) ** 0.5 * deviation.clamp(min=0.05)).all()


@pytest.mark.parametrize(("num_uniform", "num_in_batch"), [(0, 0), (-1, 5), (5, -1)])
def test_a_pool_without_negatives_is_refused(num_uniform: int, num_in_batch: int) -> None:
    with pytest.raises(ConfigError, match=f"num_negatives is {num_uniform} and num_in_batch {num_in_batch}"):
        pool(num_uniform, num_in_batch)
