"""The loss of several heads against its definition, and what it leaves out."""

import math

import pytest
import torch
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.contract.heads import Head
from retrank.losses.multitask import LISTWISE, MultitaskLoss

HEADS = (Head("click", "binary"), Head("purchase", "binary", "click"), Head("value", "value", "purchase"))
EVERY = torch.ones(2, 3, dtype=torch.bool)


def world() -> tuple[torch.Tensor, torch.Tensor]:
    """Two requests with three candidates; one purchase of 20 in the first, no click in the second."""
    raw = torch.randn(2, 3, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw[..., 2, 1] = 0.5
    labels = torch.zeros(2, 3, 3, dtype=torch.float64)
    labels[0, 0] = torch.tensor([1, 1, 20.0])
    labels[0, 2, 0] = 1
    return raw, labels


def test_each_term_is_its_definition() -> None:
    raw, labels = world()
    terms = MultitaskLoss(HEADS).terms(raw, labels, EVERY)
    for column, name in enumerate(("click", "purchase")):
        probability = raw[..., column, 0].sigmoid()
        expected = F.binary_cross_entropy(probability, labels[..., column])
        torch.testing.assert_close(terms[name], expected)
    normal = torch.distributions.Normal(raw[0, 0, 2, 0], raw[0, 0, 2, 1])
    density = normal.log_prob(torch.tensor(20.0).double().log())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(terms["value"], -density)
    shares = raw[0, :, 0, 0].log_softmax(0)
    torch.testing.assert_close(terms[LISTWISE], -(shares[0] + shares[2]) / 2)  # the second request has no click


def test_the_loss_is_the_weighted_sum() -> None:
    raw, labels = world()
    loss = MultitaskLoss(HEADS, listwise=0.25, weights={"purchase": 3.0})
    terms = loss.terms(raw, labels, EVERY)
    expected = terms["click"] + 3 * terms["purchase"] + terms["value"] + 0.25 * terms[LISTWISE]
    torch.testing.assert_close(loss(raw, labels, EVERY), expected)


def test_padding_counts_nothing_whatever_it_holds() -> None:
    raw, labels = world()
    padded_raw, padded_labels = F.pad(raw, (0, 0, 0, 0, 0, 2), value=9.0), F.pad(labels, (0, 0, 0, 2), value=math.nan)
    loss, mask = MultitaskLoss(HEADS), F.pad(EVERY, (0, 2))
    torch.testing.assert_close(loss(padded_raw, padded_labels, mask), loss(raw, labels, EVERY))


@pytest.mark.parametrize("name", ["click", "purchase", "value", LISTWISE])
@pytest.mark.parametrize("doubled", [0, 1])
def test_a_candidate_of_double_importance_counts_as_two(name: str, doubled: int) -> None:
    raw, labels = world()
    importance = torch.ones(2, 3)
    importance[0, doubled] = 2  # 0 was bought, 1 was left
    again = torch.tensor([0, 1, 2, doubled])
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    weighted = MultitaskLoss(HEADS).terms(raw, labels, EVERY, importance)[name]
    expanded = MultitaskLoss(HEADS).terms(raw[:, again], labels[:, again], mask)[name]
    torch.testing.assert_close(weighted, expanded)


def test_a_candidate_of_no_importance_is_not_there() -> None:
    raw, labels = world()
    loss, importance = MultitaskLoss(HEADS), torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    without = loss.terms(raw, labels, importance > 0)
    torch.testing.assert_close(loss.terms(raw, labels, EVERY, importance), without)


def test_the_order_of_drawn_candidates_is_that_of_the_whole_request() -> None:
    """600 candidates, one clicked: 128 of them with their weights tell the loss of all, without weights they do not."""
    random = torch.Generator().manual_seed(1)
    raw, labels = torch.zeros(1, 600, 1, 2), torch.zeros(1, 600, 1)
    raw[..., 0] = torch.randn(1, 600, 1, generator=random)
    labels[0, 0] = 1
    loss = MultitaskLoss([Head("click", "binary")])
    whole = loss.terms(raw, labels, torch.ones(1, 600, dtype=torch.bool))[LISTWISE]
    importance = torch.full((1, 128), 599 / 127)
    importance[0, 0] = 1
    every, found = torch.ones(1, 128, dtype=torch.bool), []
    for _ in range(100):
        drawn = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(599, generator=random)[:127]])
        found.append(
            [loss.terms(raw[:, drawn], labels[:, drawn], every, weights)[LISTWISE] for weights in (importance, None)]
        )
    with_weights, without = torch.tensor(found).mean(0)
    assert with_weights == pytest.approx(float(whole), abs=0.05)
    assert without < whole - 1


def test_amounts_count_only_where_the_head_they_are_given_is_positive() -> None:
    raw, labels = world()
    stray = labels.clone()
    stray[1, 1, 2] = 99.0
    loss = MultitaskLoss(HEADS)
    torch.testing.assert_close(loss(raw, stray, EVERY), loss(raw, labels, EVERY))


@pytest.mark.parametrize("mask", [EVERY, ~EVERY])
def test_without_any_positive_the_loss_is_finite_and_has_gradients(mask: torch.Tensor) -> None:
    raw = world()[0].requires_grad_()
    value = MultitaskLoss(HEADS)(raw, torch.zeros(2, 3, 3), mask)
    value.backward()
    assert value.isfinite()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_gradients_are_those_of_the_value() -> None:
    raw, labels = world()
    loss = MultitaskLoss(HEADS, weighting="uncertainty").double()
    assert torch.autograd.gradcheck(lambda values: loss(values, labels, EVERY), raw.requires_grad_())


def test_uncertainty_settles_where_theory_says() -> None:
    """exp(-s) L + s / 2 is least at s = ln(2 L); an amount has a deviation of its own and no s."""
    raw, labels = world()
    loss = MultitaskLoss(HEADS, weighting="uncertainty").double()
    assert len(loss.log_variances) == 3
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss(raw, labels, EVERY)
        value.backward()
        return float(value.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    terms = loss.terms(raw, labels, EVERY)
    expected = torch.stack([(2 * terms[name]).log() for name in ("click", "purchase", LISTWISE)])
    torch.testing.assert_close(loss.log_variances.detach(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"main": "value"}, "main head 'value'"),
        ({"weights": {"clik": 1.0}}, "clik"),
        ({"weights": {"click": -1.0}}, "at least 0"),
        ({"listwise": math.nan}, "at least 0"),
        ({"weighting": "learned"}, "weighting is 'learned'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultitaskLoss(HEADS, **changes)  # type: ignore[arg-type]
