"""Sampled softmax against its definitions, with planted negatives."""

from typing import Any

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.losses.items import ItemTable
from retrank.losses.sampled_softmax import SampledSoftmax
from retrank.losses.shared_negatives import cross_entropy_with_shared_negatives

TARGETS = torch.tensor([[1, 4], [2, 0], [7, 7], [9, 0]])
KINDS: dict[str, dict[str, Any]] = {
    "uniform": {"num_negatives": 20},
    "in-batch": {"num_negatives": 0, "num_in_batch": 100},
    "mixed": {"num_negatives": 20, "num_in_batch": 100},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def vectors(rows: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=random, dtype=torch.float64).requires_grad_()


def experienced(num_items: int = 9, **settings: Any) -> SampledSoftmax:
    """A loss that knows unequal frequencies and learns no more."""
    loss, queries = SampledSoftmax(**settings), vectors(4, 0).detach()
    for step in range(30):
        popular = torch.randint(1, 2 + step % num_items, (4,), generator=torch.Generator().manual_seed(step))
        loss(queries, ItemTable(vectors(num_items + 1, 1).detach()), popular)
    return loss.eval()


@every_kind
@pytest.mark.parametrize("settings", [{}, {"correct": False}, {"refined": False}])
def test_gradients_are_those_of_the_value(settings: dict[str, bool], kind: dict[str, Any]) -> None:
    loss = experienced(**kind, **settings)

    def value(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        result: torch.Tensor = loss(queries, ItemTable(items), TARGETS)
        return result

    assert torch.autograd.gradcheck(value, (vectors(4, 2), vectors(10, 3)))


@pytest.mark.parametrize("kind", ["in-batch", "mixed"])
@pytest.mark.parametrize("targets", [TARGETS, torch.tensor([[1], [1], [1], [1]])], ids=["several", "one for all"])
def test_symmetric_gradients_are_those_of_the_value(kind: str, targets: torch.Tensor) -> None:
    loss = experienced(**KINDS[kind], symmetric=True)

    def value(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        result: torch.Tensor = loss(queries, ItemTable(items), targets)
        return result

    assert torch.autograd.gradcheck(value, (vectors(4, 2), vectors(10, 3)))


def test_symmetric_softmax_asks_which_query_wants_the_item() -> None:
    """Against a loop over pairs: item k of query t against the queries that do not want it."""
    queries, items = vectors(4, 2), vectors(10, 3)
    settings: dict[str, Any] = {"num_negatives": 0, "num_in_batch": 100, "temperature": 0.5, "correct": False}
    both, one = (SampledSoftmax(**settings, symmetric=way)(queries, ItemTable(items), TARGETS) for way in (True, False))
    lost = []
    for asker, wanted in enumerate(TARGETS.tolist()):
        for item in filter(None, wanted):
            others = [row for row in range(4) if item not in TARGETS[row]]
            logits = queries[[asker, *others]] @ items[item] / 0.5
            lost.append(logits.logsumexp(0) - logits[0])
    torch.testing.assert_close(both, ((one + torch.stack(lost).mean()) / 2).to(both.dtype))


def test_symmetric_needs_in_batch_negatives() -> None:
    with pytest.raises(ConfigError, match="symmetric is true and num_in_batch 0"):
        SampledSoftmax(symmetric=True)


def test_in_batch_softmax_has_a_known_value() -> None:
    """Two queries, targets a and b, first step: every count is 1, so each target stands against the other."""
    queries, items = torch.eye(2), torch.tensor([[0.0, 0.0], [2.0, 0.5], [1.0, 3.0]])
    loss = SampledSoftmax(num_negatives=0, num_in_batch=5, temperature=0.5)(
        queries, ItemTable(items), torch.tensor([1, 2])
    )
    gaps = torch.tensor([(1.0 - 2.0) / 0.5, (0.5 - 3.0) / 0.5])
    torch.testing.assert_close(loss, gaps.exp().log1p().mean())


def test_refined_gradients_are_those_of_the_published_loss() -> None:
    """-w log(exp(target) / sum of corrected negatives), w = 1 - P(target), without gradient."""
    loss = experienced(**KINDS["mixed"])
    queries, items, targets = vectors(4, 2), vectors(10, 3), TARGETS[:, 0]
    torch.manual_seed(0)
    ours = torch.autograd.grad(loss(queries, ItemTable(items), targets), [queries, items])
    torch.manual_seed(0)
    rows, log_counts, _ = loss.negatives(targets[:, None], 9)
    target = (queries * items[targets]).sum(1)
    negatives = queries @ items[rows].T - log_counts
    rest = negatives.masked_fill(targets[:, None] == rows, -torch.inf).logsumexp(1)
    weight = 1 - torch.sigmoid(target - rest).detach()
    published = torch.autograd.grad((weight * (rest - target)).mean(), [queries, items])
    for mine, theirs in zip(ours, published, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_unrefined_correction_treats_targets_like_negatives() -> None:
    loss = experienced(**KINDS["in-batch"], refined=False)
    queries, items, targets = vectors(4, 2), vectors(10, 3), TARGETS[:, 0]
    rows, log_counts, _ = loss.negatives(targets[:, None], 9)
    logits = queries @ items[rows].T - log_counts
    expected = torch.nn.functional.cross_entropy(logits, torch.searchsorted(rows, targets.contiguous()))
    torch.testing.assert_close(loss(queries, ItemTable(items), targets), expected)


def test_an_unrefined_correction_of_uniform_negatives_cancels() -> None:
    values = []
    for settings in ({"refined": False}, {"correct": False}):
        torch.manual_seed(0)
        values.append(SampledSoftmax(num_negatives=20, **settings)(vectors(4, 2), ItemTable(vectors(10, 3)), TARGETS))
    torch.testing.assert_close(*values)


@every_kind
def test_the_correction_changes_the_loss(kind: dict[str, Any]) -> None:
    values = []
    for correct in (True, False):
        torch.manual_seed(0)
        values.append(experienced(**kind, correct=correct)(vectors(4, 2), ItemTable(vectors(10, 3)), TARGETS).item())
    assert abs(values[0] - values[1]) > 0.01


def test_chunks_of_queries_give_the_plain_cross_entropy() -> None:
    """So many queries that they do not fit one chunk, with repeated and masked negatives, several targets and none."""
    random = torch.Generator().manual_seed(0)
    queries, positive = vectors(2500, 1), torch.randn(2500, 2, generator=random, dtype=torch.float64).requires_grad_()
    negatives, shift = vectors(600, 2), torch.randn(600, generator=random, dtype=torch.float64)
    rows = torch.randint(1, 500, (600,), generator=random)
    targets = torch.randint(0, 500, (2500, 2), generator=random)
    logits = queries @ negatives.T - shift
    own = (targets[:, :, None] == rows).any(1)
    rest = logits.masked_fill(own, -torch.inf).logsumexp(1, keepdim=True)
    plain = (torch.logaddexp(positive, rest) - positive)[targets > 0].mean()
    fast = cross_entropy_with_shared_negatives(queries, negatives, positive, shift=shift, targets=targets, rows=rows)
    torch.testing.assert_close(fast, plain)
    inputs = [queries, negatives, positive]
    for found, expected in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_query_whose_every_negative_is_its_own_target_loses_nothing() -> None:
    loss = SampledSoftmax(num_negatives=0, num_in_batch=10)
    queries, table = vectors(3, 1), vectors(5, 2)
    value = loss(queries, ItemTable(table), torch.tensor([4, 4, 4]))
    assert value.item() == 0.0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(value, [queries, table]))
