"""What every ranker promises, whatever it has learned."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranker_worlds import CLICK, PURCHASE, VALUE, make_inputs, make_ranker
from torch.nn import functional as F

from retrank.contract.errors import ConfigError, DataError
from retrank.losses.multitask import MultitaskLoss
from retrank.models.ranker import Head, Ranker, RankerInputs, both

HEADS = (CLICK, PURCHASE, VALUE)
SHARING: tuple[Literal["mmoe", "ple"], ...] = ("mmoe", "ple")


def trained_size(ranker: Ranker) -> Ranker:
    """Give every weight a size at which it matters."""
    with torch.no_grad():
        for values in ranker.parameters():
            values.add_(0.2 * torch.randn(values.shape, generator=torch.Generator().manual_seed(5)))
    return ranker.eval()


def unknown_features(inputs: RankerInputs) -> RankerInputs:
    return inputs._replace(features=torch.full_like(inputs.features, math.nan))


def empty_history(inputs: RankerInputs) -> RankerInputs:
    return inputs._replace(
        query=torch.zeros_like(inputs.query),
        history_vectors=torch.zeros_like(inputs.history_vectors),
        history_ages=torch.full_like(inputs.history_ages, -1),
        history_actions=torch.zeros_like(inputs.history_actions),
    )


def huge(inputs: RankerInputs) -> RankerInputs:
    return inputs._replace(
        features=inputs.features.sign() * torch.inf,
        candidate_vectors=inputs.candidate_vectors * 1e18,
        history_ages=torch.full_like(inputs.history_ages, 2**62),
    )


def zero(inputs: RankerInputs) -> RankerInputs:
    return RankerInputs(*(torch.zeros_like(part) for part in inputs))


@pytest.mark.parametrize("sharing", SHARING)
def test_a_score_does_not_depend_on_the_other_candidates(sharing: Literal["mmoe", "ple"]) -> None:
    inputs = make_inputs(3, 7)
    ranker = trained_size(make_ranker(inputs, HEADS, sharing=sharing))
    every = ranker(*inputs)
    chosen = torch.tensor([5, 0, 3])
    some = inputs._replace(features=inputs.features[:, chosen], candidate_vectors=inputs.candidate_vectors[:, chosen])
    torch.testing.assert_close(ranker(*some), every[:, chosen], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ranker(*(part[1:2] for part in inputs)), every[1:2], atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing() -> None:
    inputs = make_inputs(3, 4)
    ranker = trained_size(make_ranker(inputs, HEADS))
    padded = inputs._replace(
        history_vectors=F.pad(inputs.history_vectors, (0, 0, 5, 0)),
        history_ages=F.pad(inputs.history_ages, (5, 0), value=-1),
        history_actions=F.pad(inputs.history_actions, (5, 0)),
    )
    torch.testing.assert_close(ranker(*padded), ranker(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", ["features", "candidate_vectors", "query", "history_vectors", "history_actions"])
def test_every_input_matters(part: str) -> None:
    inputs = make_inputs(3, 4)
    ranker = trained_size(make_ranker(inputs, HEADS))
    changed = inputs._replace(**{part: torch.zeros_like(getattr(inputs, part))})
    assert not torch.allclose(ranker(*changed), ranker(*inputs), atol=1e-3)


@pytest.mark.parametrize("change", [unknown_features, empty_history, huge, zero])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_answers_and_gradients_stay_finite(
    change: Callable[[RankerInputs], RankerInputs], weighting: Literal["fixed", "uncertainty"]
) -> None:
    inputs = make_inputs(4, 5)
    ranker = trained_size(make_ranker(inputs, HEADS)).train()
    labels = torch.zeros(4, 5, 3)
    labels[:, 0] = torch.tensor([1.0, 1.0, 1e12])
    raw = ranker.raw(change(inputs), torch.full((4, 5), 10**6))
    loss = MultitaskLoss(HEADS, weighting=weighting)(raw, labels, torch.ones(4, 5, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite()
    assert all(values.grad is None or values.grad.isfinite().all() for values in ranker.parameters())
    assert ranker.eval()(*change(inputs)).isfinite().all()


def test_the_loss_sees_what_the_answer_is_made_of() -> None:
    inputs = make_inputs(3, 4)
    ranker = trained_size(make_ranker(inputs, HEADS))
    raw, answers = ranker.raw(inputs), ranker(*inputs)
    torch.testing.assert_close(raw[:, :, :2, 0], answers[..., :2])
    torch.testing.assert_close((raw[:, :, 2, 0] + raw[:, :, 2, 1] ** 2 / 2).exp(), answers[..., 2])
    assert (raw[:, :, 2, 1] > 0).all()


def test_an_expected_amount_is_bounded() -> None:
    inputs = make_inputs(1, 2)
    ranker = make_ranker(inputs, HEADS).eval()
    with torch.no_grad():
        ranker.towers[2][-1].bias[0] = 1e6  # type: ignore[index]  # ModuleList forgets the class
    assert ranker(*inputs)[..., 2].max().item() == pytest.approx(math.exp(30), rel=1e-5)


@given(st.floats(-80, 80), st.floats(-80, 80))
def test_the_product_of_two_probabilities_is_exact(first: float, second: float) -> None:
    a, b = torch.tensor([first, second], dtype=torch.float64).requires_grad_()
    logit = both(a, b)
    assert F.logsigmoid(logit).item() == pytest.approx((F.logsigmoid(a) + F.logsigmoid(b)).item(), rel=1e-9)
    not_both = torch.sigmoid(-a) + torch.sigmoid(-b) - torch.sigmoid(-a) * torch.sigmoid(-b)
    assert F.logsigmoid(-logit).item() == pytest.approx(not_both.log().item(), rel=1e-9, abs=1e-15)


def test_an_extreme_product_has_a_gradient() -> None:
    logits = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    torch.autograd.backward(both(logits[:, None], logits).sum())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_places_are_told_apart_relative_to_the_first_and_an_unknown_one_adds_nothing() -> None:
    inputs = make_inputs(1, 5)
    ranker = trained_size(make_ranker(inputs, HEADS, num_positions=3))
    with torch.no_grad():
        ranker.position_bias.steps.copy_(torch.tensor([-0.25, -0.125]))
    shift = (ranker(*inputs, positions=torch.tensor([[0, 1, 2, 3, 99]])) - ranker(*inputs))[0]
    torch.testing.assert_close(shift[:, 0], torch.tensor([0, 0, -1, -1.5, -1.5]), atol=1e-5, rtol=0)
    assert (shift[2:, 1] < 0).all()  # a purchase needs the click
    torch.testing.assert_close(shift[:, 2], torch.zeros(5))


def test_training_without_bins_is_refused() -> None:
    inputs = make_inputs(2, 3)
    with pytest.raises(ValueError, match="call fit_numerics before training"):
        Ranker(2, 4, HEADS, num_actions=1, width=8)(*inputs)


def test_bins_are_part_of_what_is_saved() -> None:
    inputs = make_inputs(2, 3)
    ranker = make_ranker(inputs, HEADS).eval()
    other = Ranker(2, 4, HEADS, num_actions=1, width=16, cross_rank=8)
    other.load_state_dict(ranker.state_dict())
    torch.testing.assert_close(other.eval()(*inputs), ranker(*inputs))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ((), "no heads"),
        ((CLICK, CLICK), "'click' is empty or used twice"),
        ((PURCHASE, CLICK), "given 'click'; expected a binary head listed before"),
        ((CLICK, Head("value", "value")), "'value' names no head"),
        ((CLICK, Head("a", "value", "click"), Head("b", "value", "a")), "given 'a'"),
        ((Head("click", "ordinal"),), "kind is 'ordinal'"),  # type: ignore[arg-type]
    ],
)
def test_heads_that_cannot_be_computed_in_order_are_refused(heads: tuple[Head, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ranker(2, 4, heads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 18}, "width 18"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"num_bins": 0}, "num_bins 0"),
        ({"cross_rank": 0}, "cross_rank 0"),
        ({"num_experts": 0}, "num_experts 0"),
        ({"sharing": "all"}, "sharing is 'all'"),
        ({"num_positions": 0}, "num_positions is 0"),
        ({"num_actions": -1}, "num_actions -1"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ranker(2, 4, HEADS, **changes)  # type: ignore[arg-type]


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(5, 2\), expected \(M, 3\)"):
        make_ranker(make_inputs(2, 3), HEADS).fit_rates(torch.zeros(5, 2))
