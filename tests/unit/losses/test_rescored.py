"""The joint loss of a retriever and its second similarity."""

import pytest
import torch
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.losses.rescored import Rescored
from retrank.losses.softmax import FullSoftmax

NUM_ITEMS = 30


class Twice:
    """Items whose second similarity is a dot product over vectors of its own."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.num_items = NUM_ITEMS
        self.first, self.second = (
            torch.randn(NUM_ITEMS + 1, 4, generator=generator).requires_grad_() for _ in range(2)
        )
        self.asked: list[torch.Size] = []

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        return self.first if item_rows is None else self.first[item_rows]

    def rescore(self, queries: torch.Tensor, item_rows: torch.Tensor) -> torch.Tensor:
        self.asked.append(item_rows.shape)
        rows = item_rows if item_rows.ndim == 2 else item_rows[None]
        return (self.second[rows] * queries[:, None]).sum(-1)


def _queries(count: int = 50) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()


def _targets(count: int = 50) -> torch.Tensor:
    return torch.randint(1, NUM_ITEMS + 1, (count, 1), generator=torch.Generator().manual_seed(2))


def test_it_adds_the_cross_entropy_of_the_second_similarity_to_the_retrievers_loss() -> None:
    items, queries, targets = Twice(), _queries(), _targets()
    torch.manual_seed(0)
    loss = Rescored(FullSoftmax(), temperature=0.5, weight=2.0, num_negatives=20_000)
    retrieval = FullSoftmax()(queries, items, targets)
    again = F.cross_entropy(queries @ items.second[1:].T / 0.5, targets[:, 0] - 1)
    assert loss(queries, items, targets).item() == pytest.approx((retrieval + 2 * again).item(), abs=0.02)


def test_both_parts_reach_queries_and_tables() -> None:
    items, queries = Twice(), _queries()
    Rescored(FullSoftmax())(queries, items, _targets()).backward()
    for tensor in (items.first, items.second, queries):
        assert tensor.grad is not None
        assert tensor.grad.any()


def test_a_step_asks_for_no_more_pairs_than_it_may() -> None:
    items, queries = Twice(), _queries()
    Rescored(FullSoftmax(), num_negatives=7, max_queries=5)(queries, items, _targets())
    assert items.asked == [torch.Size([5, 1]), torch.Size([7])]


def test_a_query_does_not_push_its_own_targets_down() -> None:
    items, queries = Twice(), _queries(1)
    torch.manual_seed(0)
    every = Rescored(FullSoftmax(), num_negatives=5000)._rescoring(queries, items, torch.tensor([[3, 4]]))
    gradient = torch.autograd.grad(every, items.second)[0]
    up = -(gradient @ queries[0].detach())
    assert up[3] > 0
    assert up[4] > 0
    assert (up[torch.tensor([row not in (0, 3, 4) for row in range(NUM_ITEMS + 1)])] <= 0).all()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"weight": 0.0}, "weight is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"max_queries": 0}, "max_queries 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Rescored(FullSoftmax(), **setting)  # type: ignore[arg-type]  # settings of two types
