"""The parts of the ranker against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from retrank.contract.errors import DataError
from retrank.models.action_types import forget_some
from retrank.models.experts import Experts
from retrank.models.feature_cross import CrossNetwork
from retrank.models.numeric_encoding import NumericEncoding, bin_edges
from retrank.models.target_attention import TargetAttention, age_buckets, age_edges


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, 0, 1, 1], [0, 1]),  # a flag is one bin
        ([7, 7, 7], [7]),
        ([0] * 90 + list(range(1, 11)), [0, 1, 4, 7, 10]),  # common zeros leave the other bins to the rest
    ],
)
def test_edges_are_quantiles_and_common_values(values: list[float], edges: list[float]) -> None:
    assert bin_edges(np.array(values, np.float64), 4).tolist() == edges


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=60), st.integers(1, 9))
def test_there_are_never_more_bins_than_asked_for(values: list[float], num_bins: int) -> None:
    edges = bin_edges(np.array(values), num_bins)
    assert 1 <= len(edges) <= num_bins + 1
    assert (np.diff(edges) > 0).all()
    assert edges[0] >= min(values)
    assert edges[-1] <= max(values)


def encoding_of(column: list[float], num_bins: int = 2) -> NumericEncoding:
    """Return an encoding of one feature that shows its bins as they are, and "unknown" as 10."""
    encoding = NumericEncoding(1, num_bins, num_bins=num_bins).eval()
    encoding.fit(np.array(column)[:, None])
    with torch.no_grad():
        encoding.bins.weight.copy_(torch.eye(num_bins))
        encoding.bins.bias.zero_()
        encoding.unknown.weight.fill_(10)
    return encoding


def test_a_value_fills_the_bins_up_to_itself_and_what_is_unknown_counts_as_average() -> None:
    encoding = encoding_of([0, 1, 2, 3, 4])  # edges 0, 2, 4; average filling .7 and .3
    seen = encoding(torch.tensor([[-9.0], [0], [1], [3], [4], [math.inf], [math.nan]]))
    filled = torch.tensor([[0, 0], [0, 0], [0.5, 0], [1, 0.5], [1, 1], [1, 1], [0.7, 0.3]])
    filled[-1] += 10
    torch.testing.assert_close(seen, filled - torch.tensor([0.7, 0.3]))


def test_unknown_values_do_not_move_the_bins() -> None:
    with_gaps = encoding_of([math.nan, 0, 1, math.inf, 2, 3, 4])
    torch.testing.assert_close(with_gaps(torch.tensor([[3.0]])), encoding_of([0, 1, 2, 3, 4])(torch.tensor([[3.0]])))


@pytest.mark.parametrize("column", [[5.0, 5.0], [math.nan, math.nan]])
def test_a_feature_that_says_nothing_says_nothing(column: list[float]) -> None:
    seen = encoding_of(column)(torch.tensor([[5.0], [-1e30], [1e38]]))
    torch.testing.assert_close(seen, torch.zeros(3, 2))


@pytest.mark.parametrize("shape", [(0, 2), (3, 1), (3,)])
def test_training_features_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="training features have shape"):
        NumericEncoding(2, 4).fit(np.zeros(shape))


def test_a_cross_layer_multiplies_by_the_first_state() -> None:
    torch.manual_seed(0)
    cross, states = CrossNetwork(4, num_layers=2, rank=3), torch.randn(5, 4)
    crossed = states
    for layer in range(2):
        up, down = cross.up[layer], cross.down[layer]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        crossed = states * (crossed @ (up.weight @ down.weight).T + up.bias) + crossed
    torch.testing.assert_close(cross(states), crossed)


def test_attention_is_that_of_a_loop_over_candidates_and_events() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(6, 8, num_actions=2, num_heads=2).eval()
    for bias in (attention.age_bias, attention.action_bias):
        torch.nn.init.normal_(bias)
    candidates, events = torch.randn(1, 3, 6), torch.randn(1, 4, 6)
    ages, actions = torch.tensor([[-1, 90_000, 70, 0]]), torch.tensor([[0, 1, 0, 2]])
    expected = torch.zeros(3, 8)
    for c in range(3):
        for head in (slice(0, 4), slice(4, 8)):
            total, mixed = 1.0, torch.zeros(4)  # 1: the null event
            for event in range(1, 4):
                bucket = sum(int(ages[0, event]) >= 2**power for power in range(31))
                action = int(actions[0, event])
                value = attention.value(events[0, event]) + attention.age_value[bucket]
                logit = attention.ask(candidates[0, c])[head] @ attention.key(events[0, event])[head] / 2
                logit = logit + attention.age_bias[bucket, head.start // 4]
                weight = (logit + attention.action_bias[action, head.start // 4]).exp()
                total, mixed = total + weight, mixed + weight * (value + attention.action_value[action])[head]
            expected[c, head] = mixed / total
    seen = attention(candidates, events, ages, actions)
    torch.testing.assert_close(seen[0], attention.output(expected))


def test_attention_without_actions_does_not_ask_what_was_done() -> None:
    attention = TargetAttention(6, 8).eval()
    candidates, events, ages = torch.randn(2, 3, 6), torch.randn(2, 4, 6), torch.full((2, 4), 70)
    actions = torch.tensor([[0, 1, 2, 3], [9, 9, 9, 9]])
    torch.testing.assert_close(
        attention(candidates, events, ages, actions), attention(candidates, events, ages, torch.zeros_like(actions))
    )


def test_training_forgets_a_tenth_of_the_actions_and_invents_none() -> None:
    torch.manual_seed(0)
    actions = torch.randint(0, 4, (200, 50))
    read = forget_some(actions)
    assert ((read == actions) | (read == 0)).all()
    assert 0.09 < (read[actions > 0] == 0).float().mean().item() < 0.11


def test_without_events_the_history_says_nothing() -> None:
    attention = TargetAttention(6, 8).eval()
    nothing = torch.full((2, 5), -1), torch.zeros(2, 5, dtype=torch.int64)
    assert attention(torch.randn(2, 3, 6), torch.zeros(2, 5, 6), *nothing).abs().max() == 0


def test_ages_fall_into_powers_of_two() -> None:
    ages = torch.tensor([-1, 0, 1, 2, 3, 4, 2**30 - 1, 2**30, 2**62])
    assert age_buckets(ages, age_edges()).tolist() == [0, 0, 1, 2, 2, 3, 30, 31, 31]


def test_a_task_sees_shared_experts_and_its_own() -> None:
    mmoe = Experts(4, 4, num_tasks=2, num_experts=3, sharing="mmoe")
    assert mmoe.visible.tolist() == [[True] * 3] * 2
    ple = Experts(4, 4, num_tasks=2, num_experts=3, sharing="ple")
    assert ple.visible.tolist() == [[True] * 4 + [False] * 2, [True] * 2 + [False] * 2 + [True] * 2]


def test_the_experts_of_one_task_learn_nothing_from_another() -> None:
    ple = Experts(4, 3, num_tasks=2, num_experts=2, sharing="ple")  # one shared, one each
    ple(torch.randn(5, 4))[:, 0].sum().backward()
    assert ple.answer.weight.grad is not None
    learned = torch.unflatten(ple.answer.weight.grad, 0, (3, 3)).abs().sum((1, 2)) > 0
    assert learned.tolist() == [True, True, False]
