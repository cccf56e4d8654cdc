"""The transformer that is exported answers as the one that was trained, and leaves it as it is."""

import pytest
import torch
from torch import nn

from retrank.export.folded_attention import folded
from retrank.models.pooling import PooledHistory
from retrank.models.sasrec import SASRec

KINDS: dict[str, dict[str, object]] = {
    "gated": {"flavour": "gated"},
    "classic": {"flavour": "classic"},
    "one block": {"num_blocks": 1},
    "three blocks of four heads": {"num_blocks": 3, "num_heads": 4},
    "what was done is read": {"num_actions": 3},
    "not scaled": {"similarity": "dot"},
}


def trained(**changes: object) -> SASRec:
    """Return a model whose weights are all of a size: small ones would hide what is left out."""
    torch.manual_seed(0)
    model = SASRec(30, max_length=12, width=16, **changes)  # type: ignore[arg-type]  # of several types
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.3 * torch.randn(values.shape))
    return model.eval()


def histories(length: int) -> torch.Tensor:
    """Return four histories of up to `length` events: whole ones, one that is padded, and one of nothing."""
    rows = torch.randint(1, 31, (4, length), generator=torch.Generator().manual_seed(length))
    rows[1, : length // 2] = 0
    rows[2] = 0
    return rows


@torch.inference_mode()
@pytest.mark.parametrize("length", [1, 2, 7, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_the_trained_one(kind: str, length: int) -> None:
    model, rows = trained(**KINDS[kind]), histories(length)
    actions = torch.randint(0, 4, rows.shape, generator=torch.Generator().manual_seed(1))
    asked = (rows, actions) if model.num_actions else (rows,)
    torch.testing.assert_close(folded(model)(*asked), model(*asked), atol=2e-5, rtol=2e-5)


@torch.inference_mode()
def test_what_is_folded_is_another_model() -> None:
    model = trained()
    before, parts = {name: one.clone() for name, one in model.state_dict().items()}, list(model.modules())
    other = folded(model)
    other(histories(5))
    assert list(model.modules()) == parts
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert other.get_submodule("items") is model.items  # the item table is large: there is one


def test_what_cannot_be_folded_stays_what_it_is() -> None:
    model = PooledHistory(30, max_length=12, width=16)
    assert isinstance(model, nn.Module)
    assert folded(model) is model
