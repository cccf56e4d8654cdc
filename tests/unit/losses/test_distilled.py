"""Distillation against its plain definition, and what follows when teachers say nothing, everything or the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from retrank.contract.errors import ConfigError
from retrank.losses.distilled import Distilled, Opinion, plain_distilled
from retrank.losses.items import ItemTable
from retrank.losses.softmax import FullSoftmax

World = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _world(num_queries: int = 7, num_items: int = 9, seed: int = 0) -> World:
    random = torch.Generator().manual_seed(seed)
    queries = torch.randn(num_queries, 4, generator=random).requires_grad_()
    items = torch.randn(num_items + 1, 4, generator=random).requires_grad_()
    return queries, items, torch.randint(1, num_items + 1, (num_queries,), generator=random)


def _teachers(count: int, num_queries: int, num_items: int, seed: int = 1) -> list[Opinion]:
    """Teachers of different widths."""
    random = torch.Generator().manual_seed(seed)
    return [
        Opinion(
            torch.randn(num_queries, 3 + place, generator=random),
            torch.randn(num_items + 1, 3 + place, generator=random),
        )
        for place in range(count)
    ]


def _gradients(loss: torch.Tensor, world: World) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, world[:2])


@settings(max_examples=40)
@given(
    num_queries=st.integers(1, 15),
    num_items=st.integers(2, 20),
    chunk=st.integers(1, 20),
    teachers=st.integers(1, 3),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    softening=st.sampled_from([0.5, 1.0, 4.0]),
    seed=st.integers(0, 100),
)
def test_chunks_give_the_value_and_the_gradients_of_the_definition(
    num_queries: int, num_items: int, chunk: int, teachers: int, alpha: float, softening: float, seed: int
) -> None:
    world = queries, items, targets = _world(num_queries, num_items, seed)
    opinions = _teachers(teachers, num_queries, num_items, seed + 1)
    loss = Distilled(temperature=0.5, alpha=alpha, softening=softening, chunk=chunk)
    ours = loss(queries, ItemTable(items), targets, opinions)
    teacher_logits = [opinion.queries @ opinion.item_vectors[1:].T / softening for opinion in opinions]
    plain = plain_distilled(queries @ items[1:].T / 0.5, targets - 1, teacher_logits, alpha)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    for one, other in zip(_gradients(ours, world), _gradients(plain, world), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_a_share_for_teachers_it_is_the_full_softmax_to_the_bit() -> None:
    world = queries, items, targets = _world()
    taught = Distilled(temperature=0.1, alpha=0.0, chunk=3)(queries, ItemTable(items), targets, _teachers(2, 7, 9))
    alone = FullSoftmax(temperature=0.1, chunk=3)(queries, ItemTable(items), targets)
    assert torch.equal(taught, alone)
    assert all(torch.equal(*pair) for pair in zip(_gradients(taught, world), _gradients(alone, world), strict=True))


def test_a_teacher_who_knows_the_target_adds_nothing() -> None:
    world = queries, items, targets = _world()
    certain = Opinion(100 * F.one_hot(targets, 10).float(), torch.eye(10))
    taught = Distilled(alpha=0.7)(queries, ItemTable(items), targets, [certain])
    alone = FullSoftmax()(queries, ItemTable(items), targets)
    torch.testing.assert_close(taught, alone)
    for one, other in zip(_gradients(taught, world), _gradients(alone, world), strict=True):
        torch.testing.assert_close(one, other)


def test_a_student_who_agrees_with_a_lone_teacher_is_left_alone() -> None:
    world = queries, items, targets = _world()
    loss = Distilled(alpha=1.0, temperature=0.5)
    same = Opinion(queries.detach() / 0.5, items.detach())
    for gradient in _gradients(loss(queries, ItemTable(items), targets, [same]), world):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_two_equal_teachers_are_one_teacher() -> None:
    queries, items, targets = _world()
    one = _teachers(1, 7, 9)
    values = [Distilled()(queries, ItemTable(items), targets, one * count) for count in (1, 2)]
    torch.testing.assert_close(*values)


def test_several_targets_count_one_by_one() -> None:
    world = queries, items, _ = _world(3)
    several = torch.tensor([[1, 4, 0], [2, 0, 0], [7, 7, 9]])  # 0 = none
    rows = torch.tensor([0, 0, 1, 2, 2, 2])
    opinions = _teachers(2, 3, 9)
    spread = [Opinion(opinion.queries[rows], opinion.item_vectors) for opinion in opinions]
    loss = Distilled(alpha=0.4, chunk=2)
    together = loss(queries, ItemTable(items), several, opinions)
    apart = loss(queries[rows], ItemTable(items), several[several > 0], spread)
    torch.testing.assert_close(together, apart)
    for one, other in zip(_gradients(together, world), _gradients(apart, world), strict=True):
        torch.testing.assert_close(one, other)


def test_teachers_get_no_gradient() -> None:
    queries, items, targets = _world()
    opinion = _teachers(1, 7, 9)[0]
    opinion.queries.requires_grad_()
    Distilled()(queries, ItemTable(items), targets, [opinion]).backward()
    assert opinion.queries.grad is None


def test_memory_is_three_chunks_however_many_teachers_there_are() -> None:
    queries, items, targets = _world(400, 300)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        Distilled(chunk=10)(queries, ItemTable(items), targets, _teachers(5, 400, 300))
    largest = max(event.self_cpu_memory_usage for event in profiler.key_averages() if event.count == 1)
    assert 0 < largest <= 4 * 3 * 10 * 300 + 4 * 400 * 8


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"alpha": 1.5}, "alpha is 1.5"), ({"alpha": -0.1}, "alpha is -0.1"), ({"softening": 0.0}, "softening is 0.0")],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Distilled(**setting)  # type: ignore[arg-type]  # settings of two types
