"""BPR against its definition."""

import math

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.losses.bpr import BPR
from retrank.losses.items import ItemTable

TARGETS = torch.tensor([[1, 4], [2, 0], [7, 7], [9, 0]])


def vectors(rows: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=random, dtype=torch.float64).requires_grad_()


def test_it_is_the_mean_over_pairs_of_a_target_and_an_item_that_is_none() -> None:
    queries, items = vectors(4, 0), vectors(10, 1)
    torch.manual_seed(0)
    rows = torch.randint(1, 10, (6,)).tolist()
    assert set(rows) & {1, 2, 4, 7, 9}  # the draw holds a target, or this would prove less
    scores = queries @ items.T
    pairs = [
        math.log1p(math.exp((query[row] - query[target]) / 0.5))
        for query, own in zip(scores.tolist(), TARGETS.tolist(), strict=True)
        for target in own
        for row in rows
        if target > 0 and row not in own
    ]
    torch.manual_seed(0)
    loss = BPR(num_negatives=6, temperature=0.5)(queries, ItemTable(items), TARGETS)
    assert loss.item() == pytest.approx(sum(pairs) / len(pairs))


def test_equal_scores_cost_the_logarithm_of_two() -> None:
    loss = BPR(num_negatives=7)(torch.ones(3, 2), ItemTable(torch.ones(50, 2)), torch.tensor([1, 5, 8]))
    assert loss.item() == pytest.approx(math.log(2))


def test_gradients_are_those_of_the_value() -> None:
    def value(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        result: torch.Tensor = BPR(num_negatives=8)(queries, ItemTable(items), TARGETS)
        return result

    assert torch.autograd.gradcheck(value, (vectors(4, 0), vectors(10, 1)))


def test_no_pair_costs_nothing() -> None:
    queries = torch.ones(1, 2, requires_grad=True)
    loss = BPR(num_negatives=3)(queries, ItemTable(torch.ones(2, 2)), torch.tensor([1]))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, queries)[0].any()


def test_no_negatives_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_negatives is 0"):
        BPR(num_negatives=0)
