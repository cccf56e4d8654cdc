"""The optimizer on single tables: AdamW where every row is touched, stillness where none is."""

import copy
import io
import math

import pytest
import torch

from retrank.training.row_adamw import RowAdamW, RowMoments

ROWS, WIDTH = 7, 3
BETAS, RATE, DECAY = (0.9, 0.99), 0.1, 0.05
both_moments = pytest.mark.parametrize("moments", ["full", "one"])


def _table(seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)))


def _rows_of(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randperm(ROWS, generator=generator)[: 1 + step % ROWS]


def _gradient(step: int, rows: torch.Tensor) -> torch.Tensor:
    values = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(step))
    return torch.sparse_coo_tensor(rows[None], values, (ROWS, WIDTH), check_invariants=True)


def _optimizer(*tables: torch.nn.Parameter, moments: RowMoments = "full") -> RowAdamW:
    return RowAdamW([{"params": list(tables), "weight_decay": DECAY}], lr=RATE, betas=BETAS, row_moments=moments)


def test_with_every_row_touched_it_is_adamw_bit_by_bit() -> None:
    by_rows, dense = _table(), _table()
    optimizer = _optimizer(by_rows)
    reference = torch.optim.AdamW([dense], lr=RATE, betas=BETAS, weight_decay=DECAY)
    for step in range(20):
        gradient = _gradient(step, torch.arange(ROWS))
        by_rows.grad, dense.grad = gradient, gradient.to_dense()
        optimizer.step()
        reference.step()
    assert torch.equal(by_rows, dense)
    for name, value in reference.state[dense].items():
        assert torch.equal(optimizer.state[by_rows][name], value), name


def test_parameters_with_dense_gradients_get_adamw() -> None:
    table, bias, alone = _table(), _table(1), _table(1)
    optimizer = _optimizer(table, bias)
    reference = torch.optim.AdamW([alone], lr=RATE, betas=BETAS, weight_decay=DECAY)
    for step in range(5):
        table.grad, bias.grad, alone.grad = (
            _gradient(step, _rows_of(step)),
            _table(step).detach(),
            _table(step).detach(),
        )
        optimizer.step()
        reference.step()
    assert torch.equal(bias, alone)


def _row_by_row(moments: RowMoments, steps: int) -> torch.Tensor:
    """Readable reference: one weight after another, in float64."""
    weights = _table().double().tolist()
    mean = [[0.0] * WIDTH for _ in range(ROWS)]
    square = [[0.0] * WIDTH for _ in range(ROWS)]
    touches = [0] * ROWS
    for step in range(1, steps + 1):
        for row, values in zip(
            _rows_of(step).tolist(), _gradient(step, _rows_of(step))._values().tolist(), strict=True
        ):
            touches[row] += 1
            energy = sum(value**2 for value in values) / WIDTH
            for at, value in enumerate(values):
                if moments == "full":
                    mean[row][at] = BETAS[0] * mean[row][at] + (1 - BETAS[0]) * value
                    square[row][at] = BETAS[1] * square[row][at] + (1 - BETAS[1]) * value**2
                    direction = mean[row][at] / (1 - BETAS[0] ** step)
                    size = math.sqrt(square[row][at] / (1 - BETAS[1] ** step))
                else:
                    weight = max(1 - BETAS[1], 1 / touches[row])
                    square[row][at] += weight * (energy - square[row][at])
                    direction, size = value, math.sqrt(square[row][at])
                weights[row][at] *= 1 - RATE * DECAY
                weights[row][at] -= RATE * direction / (size + 1e-8)
    return torch.tensor(weights)


@both_moments
def test_it_follows_the_reference_row_by_row(moments: RowMoments) -> None:
    table = _table()
    optimizer = _optimizer(table, moments=moments)
    for step in range(1, 31):
        table.grad = _gradient(step, _rows_of(step))
        optimizer.step()
    torch.testing.assert_close(table.detach(), _row_by_row(moments, 30), atol=1e-4, rtol=1e-4)


@both_moments
def test_rows_that_are_not_touched_keep_weights_and_moments(moments: RowMoments) -> None:
    table = _table()
    optimizer = _optimizer(table, moments=moments)
    table.grad = _gradient(1, torch.arange(ROWS))
    optimizer.step()
    before, state = table.detach().clone(), copy.deepcopy(optimizer.state[table])
    table.grad = _gradient(2, torch.tensor([4, 2]))
    optimizer.step()
    still = torch.tensor([0, 1, 3, 5, 6])
    assert torch.equal(table[still], before[still])
    assert (table[[2, 4]] != before[[2, 4]]).all()
    for name, value in optimizer.state[table].items():
        assert name == "step" or torch.equal(value[still], state[name][still])


@both_moments
def test_a_row_named_twice_gets_the_sum(moments: RowMoments) -> None:
    twice, once = _table(), _table()
    values = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 1.0]])
    twice.grad = torch.sparse_coo_tensor(torch.tensor([[5, 5]]), values, (ROWS, WIDTH), check_invariants=True)
    once.grad = torch.sparse_coo_tensor(
        torch.tensor([[5]]), values.sum(0, keepdim=True), (ROWS, WIDTH), check_invariants=True
    )
    for table in (twice, once):
        _optimizer(table, moments=moments).step()
    assert torch.equal(twice, once)


@both_moments
def test_a_step_without_rows_or_without_gradient_moves_nothing(moments: RowMoments) -> None:
    table, before = _table(), _table()
    optimizer = _optimizer(table, moments=moments)
    optimizer.step()
    table.grad = _gradient(1, torch.zeros(0, dtype=torch.int64))
    optimizer.step()
    assert torch.equal(table, before)


@both_moments
def test_a_restored_optimizer_continues_bit_by_bit(moments: RowMoments) -> None:
    def train(table: torch.nn.Parameter, optimizer: RowAdamW, steps: range) -> None:
        for step in steps:
            table.grad = _gradient(step, _rows_of(step))
            optimizer.step()

    whole, stream = _table(), io.BytesIO()
    optimizer = _optimizer(whole, moments=moments)
    train(whole, optimizer, range(10))
    resumed = torch.nn.Parameter(whole.detach().clone())
    torch.save(optimizer.state_dict(), stream)
    stream.seek(0)
    continued = _optimizer(resumed, moments=moments)
    continued.load_state_dict(torch.load(stream, weights_only=True))
    train(whole, optimizer, range(10, 20))
    train(resumed, continued, range(10, 20))
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(("moments", "per_row"), [("full", 2 * WIDTH), ("one", 2)])
def test_the_memory_of_a_row_is_what_is_promised(moments: RowMoments, per_row: int) -> None:
    table = _table()
    optimizer = _optimizer(table, moments=moments)
    table.grad = _gradient(0, _rows_of(0))
    optimizer.step()
    assert sum(value.numel() for value in optimizer.state[table].values()) == 1 + per_row * ROWS


def test_the_loss_of_a_closure_is_returned_and_its_gradient_used() -> None:
    table, before = _table(), _table()
    optimizer = _optimizer(table)

    def closure() -> float:
        loss = torch.nn.functional.embedding(torch.tensor([1, 1, 6]), table, sparse=True).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        return float(loss.detach())

    assert optimizer.step(closure) > 0
    assert (table != before).any(1).nonzero().flatten().tolist() == [1, 6]
    assert table.grad is not None  # still there for those who look at it after the step
