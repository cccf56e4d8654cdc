"""SASRec: shapes, sizes that are refused, and the flavours."""

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.models.blocks import Dropout, Rotary
from retrank.models.sasrec import SASRec


def small(**changes: object) -> SASRec:
    torch.manual_seed(0)
    settings = {"max_length": 6, "width": 8, "num_blocks": 2, "num_heads": 2} | changes
    return SASRec(10, **settings).eval()  # type: ignore[arg-type]  # settings of several types in one dict


def test_every_position_has_a_query_and_every_item_a_vector() -> None:
    model = small()
    histories = torch.tensor([[0, 0, 3, 4], [1, 2, 3, 4]])
    assert model.encode_all(histories).shape == (2, 4, 8)
    assert model(histories).shape == (2, 8)
    assert model.item_vectors().shape == (11, 8)


def test_the_vector_of_the_padding_row_is_zero() -> None:
    for similarity in ("cosine", "dot"):
        assert not small(similarity=similarity).item_vectors()[0].any()


def test_cosine_gives_unit_vectors_on_both_sides() -> None:
    model = small(similarity="cosine")
    torch.testing.assert_close(model(torch.tensor([[1, 2, 3]])).norm(dim=-1), torch.ones(1))
    torch.testing.assert_close(model.item_vectors()[1:].norm(dim=-1), torch.ones(10))


def test_training_on_real_items_never_moves_the_padding_row() -> None:
    model = small().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    (model.encode_all(torch.tensor([[0, 1, 2]])).sum() + model.item_vectors()[1:].sum()).backward()  # type: ignore[no-untyped-call]  # torch
    optimizer.step()
    assert not model.items.weight[0].any()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 7}, "width 7"),
        ({"num_heads": 0}, "width 8"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"flavour": "fancy"}, "'fancy'"),
        ({"similarity": "euclid"}, "'euclid'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        small(**changes)


def test_more_events_than_the_model_reads_are_refused() -> None:
    with pytest.raises(ValueError, match="7 events"):
        small()(torch.ones(1, 7, dtype=torch.int64))


def test_dropout_keeps_the_mean_and_drops_the_asked_share() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.25).train()(torch.ones(200_000))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)


def test_dropout_repeats_with_the_seed_and_is_silent_in_evaluation() -> None:
    values, dropout = torch.randn(7, 5), Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(values)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(values))
    assert dropout.eval()(values) is values


def test_rotated_products_depend_on_the_distance_alone() -> None:
    rotary = Rotary(head_width=8, max_length=10)
    query, key = torch.randn(8), torch.randn(8)
    products = [
        rotary(query.expand(1, 1, length, 8))[0, 0, -1] @ rotary(key.expand(1, 1, length, 8))[0, 0, -4]
        for length in (4, 7, 10)
    ]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3))
    shifted = rotary(query.expand(1, 1, 10, 8))[0, 0, -3] @ rotary(key.expand(1, 1, 10, 8))[0, 0, -6]
    torch.testing.assert_close(shifted, products[0])
