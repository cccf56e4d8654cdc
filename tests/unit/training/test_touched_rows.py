"""Which tables get gradients of touched rows, and how such gradients are added up and clipped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrank.training.touched_rows import clip_gradients, coalesce_gradients, mark_tables, marked_tables


def _model() -> nn.ModuleDict:
    return nn.ModuleDict({"table": nn.Embedding(100, 2), "colours": nn.Embedding(9, 2), "out": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    ("touched_rows_from", "expected"),
    [(0, []), (9, ["table.weight", "colours.weight"]), (10, ["table.weight"]), (100, ["table.weight"]), (101, [])],
)
def test_tables_of_at_least_so_many_rows_are_marked(touched_rows_from: int, expected: list[str]) -> None:
    model = _model()
    mark_tables(model, 1)
    mark_tables(model, touched_rows_from)
    assert marked_tables(model) == expected


def test_a_table_under_two_names_is_one_table() -> None:
    model = _model()
    model["again"] = nn.Embedding(100, 2)
    model["again"].weight = model["table"].weight
    mark_tables(model, 50)
    assert marked_tables(model) == ["table.weight"]


def _gradients(seed: int, sparse: bool) -> nn.ModuleDict:
    """Gradients from three look-ups into one table, padding among them, and from a dense layer."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"table": nn.Embedding(20, 3, padding_idx=0, sparse=sparse), "out": nn.Linear(3, 2)})
    states = [model["table"](torch.randint(0, 20, shape)) for shape in ((4, 5), (7,), (2, 1))]
    sum(model["out"](state).square().sum() for state in states).backward()
    coalesce_gradients(model.parameters())
    return model


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_clipping_is_that_of_torch_on_dense_gradients(seed: int, max_norm: float) -> None:
    by_rows, dense = _gradients(seed, sparse=True), _gradients(seed, sparse=False)
    norm = clip_gradients(by_rows.parameters(), max_norm)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(dense.parameters(), max_norm))
    table = by_rows.get_parameter("table.weight").grad
    assert table is not None
    assert table.is_sparse
    assert table.is_coalesced()
    assert 0 not in table.indices()
    for found, expected in zip(by_rows.parameters(), dense.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(found.grad.to_dense(), expected.grad)


def test_parameters_without_gradients_are_passed_over() -> None:
    model = _model()
    model["out"](torch.ones(2)).sum().backward()
    coalesce_gradients(model.parameters())
    assert clip_gradients(model.parameters(), 0.5) > 0.5
    assert model["table"].weight.grad is None
