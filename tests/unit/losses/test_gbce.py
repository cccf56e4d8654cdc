"""Generalised binary cross-entropy against its definition."""

import math

import pytest
import torch
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.losses.gbce import GeneralisedBCE
from retrank.losses.items import ItemTable


@pytest.mark.parametrize(
    ("num_negatives", "num_items", "calibration", "beta"),
    [
        (1, 101, 0.0, 1.0),
        (1, 101, 1.0, 0.01),
        (1, 101, 0.5, 0.505),
        (256, 3417, 0.75, 1 - 0.75 * (1 - 256 / 3416)),
        (100, 101, 1.0, 1.0),  # all negatives are drawn: nothing to calibrate
        (500, 101, 1.0, 1.0),
        (5, 1, 1.0, 1.0),
    ],
)
def test_beta_follows_the_published_formula(
    num_negatives: int, num_items: int, calibration: float, beta: float
) -> None:
    assert GeneralisedBCE(num_negatives=num_negatives, calibration=calibration).beta(num_items) == pytest.approx(beta)
    share = min(1.0, num_negatives / max(num_items - 1, 1))
    assert beta == pytest.approx(share * (calibration * (1 - 1 / share) + 1 / share))


def world() -> tuple[torch.Tensor, ItemTable, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    queries = torch.randn(6, 3, generator=random, dtype=torch.float64).requires_grad_()
    items = torch.randn(501, 3, generator=random, dtype=torch.float64)
    return queries, ItemTable(items), torch.randint(1, 501, (6,), generator=random)


def logits_of_a_draw(num_negatives: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    queries, table, targets = world()
    items = table.item_vectors()
    torch.manual_seed(1)
    rows = torch.randint(1, 501, (num_negatives,))
    assert not (targets[:, None] == rows).any()
    return (queries * items[targets]).sum(1) / temperature, queries @ items[rows].T / temperature


def test_without_calibration_it_is_binary_cross_entropy() -> None:
    target, negatives = logits_of_a_draw(4, 0.5)
    logits, labels = torch.cat([target[:, None], negatives], 1), torch.tensor([1.0, 0, 0, 0, 0]).double().expand(6, 5)
    torch.manual_seed(1)
    loss = GeneralisedBCE(num_negatives=4, calibration=0, temperature=0.5)(*world())
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labels))


def test_the_probability_of_the_target_is_raised_to_beta() -> None:
    target, negatives = logits_of_a_draw(4, 1.0)
    torch.manual_seed(1)
    loss = GeneralisedBCE(num_negatives=4, calibration=0.9)
    expected = -(torch.sigmoid(target) ** loss.beta(500)).log() - (1 - torch.sigmoid(negatives)).log().sum(1)
    torch.testing.assert_close(loss(*world()), expected.mean() / 5)


def test_gradients_are_those_of_the_value() -> None:
    queries, table, _ = world()
    targets = torch.tensor([[1, 4], [2, 0], [7, 7], [9, 0], [3, 0], [5, 6]])

    def value(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        result: torch.Tensor = GeneralisedBCE(num_negatives=8)(queries, ItemTable(items), targets)
        return result

    assert torch.autograd.gradcheck(value, (queries, table.item_vectors()[:11].clone().requires_grad_()))


def test_a_lone_item_costs_what_is_left_of_its_probability() -> None:
    queries, items = torch.ones(1, 2), torch.ones(2, 2)
    loss = GeneralisedBCE(num_negatives=3)(queries, ItemTable(items), torch.tensor([1]))  # all negatives are masked
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2)) / 4)


@pytest.mark.parametrize("calibration", [-0.1, 1.1, math.nan])
def test_a_calibration_out_of_range_is_refused(calibration: float) -> None:
    with pytest.raises(ConfigError, match=f"calibration is {calibration}"):
        GeneralisedBCE(calibration=calibration)


def test_no_negatives_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_negatives is 0"):
        GeneralisedBCE(num_negatives=0)
