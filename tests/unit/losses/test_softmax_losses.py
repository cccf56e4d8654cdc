"""The losses against their plain definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from retrank.contract.errors import ConfigError
from retrank.losses.items import ItemTable
from retrank.losses.sampled_softmax import SampledSoftmax
from retrank.losses.softmax import FullSoftmax

Gradients = tuple[torch.Tensor, torch.Tensor]


def naive(queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.cross_entropy(queries @ items[1:].T / temperature, targets - 1)


def world(num_queries: int, num_items: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    queries = torch.randn(num_queries, width, generator=random, dtype=torch.float32).requires_grad_()
    items = torch.randn(num_items + 1, width, generator=random).requires_grad_()
    return queries, items, torch.randint(1, num_items + 1, (num_queries,), generator=random)


def gradients(loss: torch.Tensor, queries: torch.Tensor, items: torch.Tensor) -> Gradients:
    first, second = torch.autograd.grad(loss, [queries, items])
    return first, second


@settings(max_examples=30, deadline=None)
@given(
    num_queries=st.integers(1, 20),
    num_items=st.integers(2, 30),
    chunk=st.integers(1, 25),
    temperature=st.sampled_from([0.05, 0.5, 1.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_chunked_softmax_equals_plain_cross_entropy_in_value_and_gradient(
    num_queries: int, num_items: int, chunk: int, temperature: float, seed: int
) -> None:
    queries, items, targets = world(num_queries, num_items, 4, seed)
    expected = naive(queries, items, targets, temperature)
    loss = FullSoftmax(temperature=temperature, chunk=chunk)(queries, ItemTable(items), targets)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(loss, queries, items), gradients(expected, queries, items), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_factor_on_the_loss_scales_its_gradients() -> None:
    queries, items, targets = world(7, 9, 4, seed=0)
    loss = FullSoftmax(chunk=3)
    once = gradients(loss(queries, ItemTable(items), targets), queries, items)
    thrice = gradients(3 * loss(queries, ItemTable(items), targets), queries, items)
    for one, three in zip(once, thrice, strict=True):
        torch.testing.assert_close(3 * one, three)


def test_several_targets_per_query_count_one_by_one() -> None:
    queries, items, _ = world(3, 9, 4, seed=0)
    several = torch.tensor([[1, 4, 0], [2, 0, 0], [7, 7, 9]])  # 0 = none
    rows = torch.tensor([0, 0, 1, 2, 2, 2])
    expected = naive(queries[rows], items, several[several > 0], 0.5)
    loss = FullSoftmax(temperature=0.5, chunk=2)(queries, ItemTable(items), several)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, queries, items), gradients(expected, queries, items), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_padding_row_takes_no_part_and_gets_no_gradient() -> None:
    queries, items, targets = world(5, 6, 4, seed=0)
    loss = FullSoftmax()(queries, ItemTable(items), targets)
    assert not gradients(loss, queries, items)[1][0].any()
    moved = items.detach().clone()
    moved[0] = 100.0
    torch.testing.assert_close(FullSoftmax()(queries, ItemTable(moved), targets), loss)


def test_equal_vectors_cost_the_logarithm_of_the_catalogue() -> None:
    loss = FullSoftmax()(torch.ones(3, 2), ItemTable(torch.ones(9, 2)), torch.tensor([1, 5, 8]))
    assert loss.item() == pytest.approx(math.log(8))


def test_huge_logits_stay_finite() -> None:
    queries = torch.full((2, 2), 1e4, requires_grad=True)
    items = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]])
    loss = FullSoftmax(temperature=0.05)(queries, ItemTable(items), torch.tensor([1, 2]))
    loss.backward()
    assert torch.isfinite(loss)
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


def test_no_gradient_is_computed_when_none_is_wanted() -> None:
    queries, items, targets = world(5, 6, 4, seed=0)
    with torch.no_grad():
        assert not FullSoftmax()(queries, ItemTable(items), targets).requires_grad


def test_a_chunk_bounds_the_largest_tensor() -> None:
    queries, items, targets = world(400, 300, 4, seed=0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        FullSoftmax(chunk=10)(queries, ItemTable(items), targets)
    largest = max(event.self_cpu_memory_usage for event in profiler.key_averages() if event.count == 1)
    assert 0 < largest <= 4 * 10 * 300 + 4 * 400 * 4


def test_sampled_softmax_comes_close_to_the_full_one_as_negatives_grow() -> None:
    torch.manual_seed(0)
    queries, items, targets = world(50, 200, 4, seed=0)
    table = ItemTable(items)
    full = FullSoftmax()(queries, table, targets).item()
    few, many = (
        sum(SampledSoftmax(num_negatives=k)(queries, ItemTable(items), targets).item() for _ in range(20)) / 20
        for k in (8, 4096)
    )
    assert abs(many - full) < 0.05
    assert abs(many - full) < abs(few - full)


def test_a_negative_that_is_the_target_does_not_count() -> None:
    queries, items = torch.ones(1, 2), torch.ones(2, 2)  # the only item is the target
    assert SampledSoftmax(num_negatives=5)(queries, ItemTable(items), torch.tensor([1])).item() == 0.0


def test_sampled_softmax_repeats_with_the_seed() -> None:
    queries, items, targets = world(6, 50, 4, seed=0)
    losses = []
    for _ in range(2):
        torch.manual_seed(5)
        losses.append(SampledSoftmax(num_negatives=7)(queries, ItemTable(items), targets).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("loss", [FullSoftmax, SampledSoftmax])
def test_a_temperature_of_zero_is_refused(loss: type[FullSoftmax] | type[SampledSoftmax]) -> None:
    with pytest.raises(ConfigError, match=r"temperature is 0\.0"):
        loss(temperature=0.0)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_bfloat16_products_change_loss_and_gradients_by_their_rounding(temperature: float) -> None:
    queries, items, targets = world(300, 200, 16, seed=1)

    def measured(enabled: bool) -> tuple[torch.Tensor, Gradients]:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            table = ItemTable(F.normalize(items, dim=-1))
            loss = FullSoftmax(temperature=temperature, chunk=128, bf16_products=True)(
                F.normalize(queries, dim=-1), table, targets
            )
        return loss, gradients(loss, queries, items)

    (narrow, narrow_gradients), (exact, exact_gradients) = measured(True), measured(False)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-3)
    for found, expected in zip(narrow_gradients, exact_gradients, strict=True):
        assert 1e-5 < (found - expected).norm() / expected.norm() < 1e-2


def test_a_target_far_ahead_keeps_a_finite_loss_under_bfloat16() -> None:
    queries, items = torch.tensor([[300.0]], requires_grad=True), torch.tensor([[0.0], [-1.0], [1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        loss = FullSoftmax(bf16_products=True)(queries, ItemTable(items), torch.tensor([1]))
    assert loss.item() == pytest.approx(600.0)
    (gradient,) = torch.autograd.grad(loss, queries)
    assert gradient.item() == pytest.approx(2.0)


def test_products_stay_exact_under_bfloat16_unless_asked_otherwise() -> None:
    queries, items, targets = world(300, 200, 16, seed=1)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            table = ItemTable(F.normalize(items, dim=-1))
            found.append(FullSoftmax(temperature=0.05)(F.normalize(queries, dim=-1), table, targets))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)
