"""What every loss of sequence retrieval promises, whichever it is."""

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from retrank.contract.errors import ConfigError
from retrank.losses.bpr import BPR
from retrank.losses.distilled import Distilled, Opinion
from retrank.losses.gbce import GeneralisedBCE
from retrank.losses.items import Items, ItemTable
from retrank.losses.sampled_softmax import SampledSoftmax
from retrank.losses.softmax import FullSoftmax

Make = Callable[[float], nn.Module]


class Taught(nn.Module):
    """Distillation from one mild teacher with item vectors of its own."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.loss = Distilled(temperature=temperature)

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        shape = (items.num_items + 1, queries.shape[1])
        vectors = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(5))
        value: torch.Tensor = self.loss(queries, items, target_rows, [Opinion(queries, vectors)])
        return value


SAMPLED: dict[str, Make] = {
    "uniform softmax": lambda temperature: SampledSoftmax(num_negatives=40, temperature=temperature),
    "uncorrected uniform softmax": lambda temperature: SampledSoftmax(
        num_negatives=40, temperature=temperature, correct=False
    ),
    "in-batch softmax": lambda temperature: SampledSoftmax(num_negatives=0, num_in_batch=500, temperature=temperature),
    "a part of the batch": lambda temperature: SampledSoftmax(num_negatives=0, num_in_batch=3, temperature=temperature),
    "uncorrected in-batch softmax": lambda temperature: SampledSoftmax(
        num_negatives=0, num_in_batch=500, temperature=temperature, correct=False
    ),
    "unrefined in-batch softmax": lambda temperature: SampledSoftmax(
        num_negatives=0, num_in_batch=500, temperature=temperature, refined=False
    ),
    "mixed softmax": lambda temperature: SampledSoftmax(num_negatives=20, num_in_batch=500, temperature=temperature),
    "gBCE": lambda temperature: GeneralisedBCE(num_negatives=40, temperature=temperature),
    "plain BCE": lambda temperature: GeneralisedBCE(num_negatives=40, calibration=0, temperature=temperature),
    "BPR": lambda temperature: BPR(num_negatives=40, temperature=temperature),
}
LOSSES: dict[str, Make] = {
    "full softmax": lambda temperature: FullSoftmax(temperature=temperature),
    "distilled": Taught,
    **SAMPLED,
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
every_sampled_loss = pytest.mark.parametrize("make", SAMPLED.values(), ids=SAMPLED.keys())

NUM_ITEMS = 12
TARGETS = torch.tensor([[1, 0], [2, 5], [3, 0], [2, 9], [7, 7]])


def _vectors(rows: int, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def _value(loss: nn.Module, queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    value: torch.Tensor = loss(queries, ItemTable(items), targets)
    return value


def _logit_gradient(loss: nn.Module, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`[T, N + 1]`: item vectors are unit vectors, so that a query is its own row of logits."""
    queries = logits.clone().requires_grad_()
    value = _value(loss, queries, torch.eye(logits.shape[1]), targets)
    return torch.autograd.grad(value, queries)[0]


@every_loss
def test_the_loss_is_a_positive_scalar(make: Make) -> None:
    value = _value(make(1.0), _vectors(5), _vectors(NUM_ITEMS + 1, seed=1), TARGETS)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value > 0


@every_loss
def test_absent_targets_take_no_part(make: Make) -> None:
    queries, items, single = _vectors(5), _vectors(NUM_ITEMS + 1, seed=1), TARGETS[:, :1]
    padded = torch.cat([torch.zeros_like(single), single, torch.zeros_like(single)], dim=1)
    expected = _value(make(1.0), queries, items, single)
    torch.testing.assert_close(_value(make(1.0), queries, items, padded), expected)
    torch.testing.assert_close(_value(make(1.0), queries, items, single[:, 0]), expected)


@every_loss
def test_the_padding_row_of_the_table_takes_no_part(make: Make) -> None:
    queries, items = _vectors(5), _vectors(NUM_ITEMS + 1, seed=1).requires_grad_()
    value = _value(make(1.0), queries, items, TARGETS)
    assert not torch.autograd.grad(value, items)[0][0].any()
    moved = items.detach().clone()
    moved[0] = 100.0
    torch.testing.assert_close(_value(make(1.0), queries, moved, TARGETS), value)


@every_loss
def test_the_order_of_queries_and_of_targets_does_not_matter(make: Make) -> None:
    queries, items, order = _vectors(5), _vectors(NUM_ITEMS + 1, seed=1), torch.tensor([3, 0, 4, 1, 2])
    expected = _value(make(1.0), queries, items, TARGETS)
    torch.testing.assert_close(_value(make(1.0), queries[order], items, TARGETS[order]), expected)
    torch.testing.assert_close(_value(make(1.0), queries, items, TARGETS.flip(1)), expected)


@every_loss
def test_extreme_logits_keep_the_loss_and_its_gradients_finite(make: Make) -> None:
    for scale in (0.0, 1e4, -1e4):
        queries, items = torch.full((5, 4), scale, requires_grad=True), _vectors(NUM_ITEMS + 1, seed=1).requires_grad_()
        value = _value(make(0.05), queries, items, TARGETS)
        assert torch.isfinite(value)
        assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(value, [queries, items]))


@every_loss
def test_a_step_of_gradient_descent_lifts_targets_above_the_rest(make: Make) -> None:
    logits, targets = _vectors(5, NUM_ITEMS + 1), TARGETS[:, :1]
    moved = logits - _logit_gradient(make(1.0), logits, targets)

    def lead(scores: torch.Tensor) -> torch.Tensor:
        return scores.gather(1, targets)[:, 0] - scores[:, 1:].mean(1)

    assert (lead(moved) > lead(logits)).all()


@every_loss
def test_descent_ranks_each_target_first(make: Make) -> None:
    loss, targets = make(1.0), torch.arange(1, NUM_ITEMS + 1)
    queries, items = _vectors(NUM_ITEMS, 8).requires_grad_(), _vectors(NUM_ITEMS + 1, 8, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([queries, items], lr=0.05)
    torch.manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        loss(queries, ItemTable(items), targets).backward()
        optimizer.step()
    assert torch.equal((queries @ items[1:].T).argmax(1) + 1, targets)


@every_sampled_loss
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_no_query_pushes_a_target_of_its_own_down(scale: float, make: Make) -> None:
    """The full softmax is left out: it means to lower a target whose probability is above its share of the targets."""
    gradient = _logit_gradient(make(1.0), scale * _vectors(5, NUM_ITEMS + 1), TARGETS)
    for query, targets in enumerate(TARGETS):
        assert (gradient[query, targets[targets > 0]] <= 0).all()


@every_loss
def test_half_precision_queries_cost_nearly_the_same(make: Make) -> None:
    queries, items = _vectors(5), _vectors(NUM_ITEMS + 1, seed=1)
    half = queries.bfloat16().requires_grad_()
    for table in (items, items.bfloat16()):
        value = _value(make(1.0), half, table, TARGETS)
        torch.testing.assert_close(value, _value(make(1.0), queries, items, TARGETS), atol=0.02, rtol=0.02)
        gradient = torch.autograd.grad(value, half)[0]
        assert gradient.dtype == torch.bfloat16
        assert torch.isfinite(gradient).all()


@every_loss
def test_a_catalogue_of_one_item_works(make: Make) -> None:
    queries, items = _vectors(2).requires_grad_(), _vectors(2, seed=1).requires_grad_()
    value = _value(make(1.0), queries, items, torch.tensor([[1], [1]]))
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(value, [queries, items]))


@every_loss
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float, make: Make) -> None:
    with pytest.raises(ConfigError, match=f"temperature is {temperature}"):
        make(temperature)


@every_loss
def test_a_loss_has_no_weights_of_its_own(make: Make) -> None:
    assert not list(make(1.0).parameters())


@every_loss
def test_a_restored_loss_continues_bit_by_bit(make: Make) -> None:
    def steps(loss: nn.Module, first: int, last: int) -> list[float]:
        values = []
        for step in range(first, last):
            targets = torch.randint(1, NUM_ITEMS + 1, (5, 1), generator=torch.Generator().manual_seed(step))
            values.append(_value(loss, _vectors(5, seed=step), items, targets).item())
        return values

    items, whole, interrupted, stream = _vectors(NUM_ITEMS + 1), make(1.0), make(1.0), io.BytesIO()
    expected = steps(whole, 0, 20)
    first = steps(interrupted, 0, 10)
    torch.save(interrupted.state_dict(), stream)
    stream.seek(0)
    resumed = make(1.0)
    resumed.load_state_dict(torch.load(stream, weights_only=True))
    assert first + steps(resumed, 10, 20) == expected
    assert steps(copy.deepcopy(whole), 20, 25) == steps(whole, 20, 25)


@every_sampled_loss
def test_a_step_makes_nothing_of_the_size_of_the_catalogue(make: Make) -> None:
    loss, num_items = make(1.0), 100_000
    queries, items = _vectors(8), torch.zeros(num_items + 1, 4, dtype=torch.bfloat16)  # to be widened row by row
    targets = torch.randint(1, num_items + 1, (8, 2), generator=torch.Generator().manual_seed(0))
    loss(queries, ItemTable(items), targets)  # what a loss remembers per item is allocated once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(queries, ItemTable(items), targets)
    largest = max(event.self_cpu_memory_usage for event in profiler.key_averages())
    assert 0 < largest < num_items


ZIPF_ITEMS, BATCH, STEPS, RATE = 100, 64, 1000, 0.01


def _learned_log_odds(loss: SampledSoftmax) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Error of each item's log-odds against the first item after learning Zipf targets; its tolerance; how often seen.

    Three standard errors of the two counts, and three deviations of the logarithm of the frequency estimate.
    """
    torch.manual_seed(0)
    probability = torch.arange(1, ZIPF_ITEMS + 1).reciprocal()
    probability /= probability.sum()
    batches = torch.multinomial(probability, STEPS * BATCH, replacement=True).reshape(STEPS, BATCH) + 1
    scores, average = torch.zeros(ZIPF_ITEMS + 1, 1, requires_grad=True), torch.zeros(ZIPF_ITEMS)
    optimizer = torch.optim.Adam([scores], lr=0.1, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step, targets in enumerate(batches):
        optimizer.zero_grad()
        loss(torch.ones(BATCH, 1), ItemTable(scores), targets).backward()
        optimizer.step()
        schedule.step()
        if step >= STEPS // 2:
            average += scores.detach()[1:, 0] / (STEPS - STEPS // 2)
    seen = probability * STEPS * BATCH
    tolerance = 3 * (1 / seen + 1 / seen[0]).sqrt() + 3 * math.sqrt(RATE / 2)
    return average - average[0] - (probability / probability[0]).log(), tolerance, seen


@pytest.mark.parametrize("refined", [True, False])
@pytest.mark.parametrize("num_negatives", [0, 20])
def test_logq_recovers_the_log_odds_of_zipf_targets(num_negatives: int, refined: bool) -> None:
    loss = SampledSoftmax(num_negatives=num_negatives, num_in_batch=BATCH, refined=refined, frequency_rate=RATE)
    error, tolerance, _ = _learned_log_odds(loss)
    assert (error.abs() <= tolerance).all()
    assert abs(error[50:].mean()) < 0.1  # errors of many items cancel, a bias would not


def test_without_logq_in_batch_negatives_hold_popular_items_down() -> None:
    loss = SampledSoftmax(num_negatives=0, num_in_batch=BATCH, correct=False)
    error, tolerance, seen = _learned_log_odds(loss)
    share_of_steps = 1 - (1 - seen / (STEPS * BATCH)) ** BATCH
    missing = -(share_of_steps / share_of_steps[0]).log()  # what the correction would have added
    assert (error[20:] > 2 * tolerance[20:]).all()
    assert ((error - missing).abs() <= tolerance).all()
    assert error[50:].mean() > 1.5
