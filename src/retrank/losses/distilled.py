"""Full softmax against a mix of what happened and what teachers expected, in chunks of rows.

`plain_distilled` says the same in four lines that hold all logits at once; it is the oracle in the tests.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax


class Opinion(NamedTuple):
    """What one teacher thinks of the queries of a step: its logits are `queries @ item_vectors[1:].T`.

    Attributes:
        queries: `[T, E]` float32 queries of the teacher, divided by its own temperature; E is the teacher's width.
        item_vectors: `[N + 1, E]` float32 item vectors of the teacher, row 0 is padding.
    """

    queries: torch.Tensor
    item_vectors: torch.Tensor


class Distilled(nn.Module):
    """Mean cross-entropy of the student's softmax against `(1 - alpha)` target + `alpha` mean of the teachers' softmax.

    Args:
        temperature: the student's logits are divided by it, > 0 (0.05 suits cosine similarity, 1 suits dot products).
        alpha: share of the teachers in what is to be learned, 0..1; 0 is `FullSoftmax` to the bit, 1 looks at teachers
            alone.
        softening: the teachers' logits are divided by it on top of their own temperature, > 0; above 1 their
            distributions get flatter.
        chunk: queries per chunk, >= 1; peak memory is `3 * chunk * N` floats, however many teachers there are.

    Raises:
        ConfigError: a value is out of range.

    Source: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531). Deviations: the student is not softened, so that teachers and
    targets form one distribution, the student's softmax is computed once and its scores keep their scale; several
    teachers are averaged as probabilities, which keeps what only one of them believes in.
    """

    def __init__(
        self, *, temperature: float = 1.0, alpha: float = 0.5, softening: float = 1.0, chunk: int = 512
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha is {alpha}; it must be in 0 <= alpha <= 1")
        if not softening > 0:
            raise ConfigError(f"softening is {softening}; it must be positive")
        self.targets_alone = FullSoftmax(temperature=temperature, chunk=chunk)
        self.temperature, self.alpha, self.softening, self.chunk = temperature, alpha, softening, chunk

    def forward(
        self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor, opinions: Sequence[Opinion]
    ) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets.

        Args:
            queries: `[T, D]` float, T >= 1.
            items: what has the item vectors; row 0 is padding and takes no part.
            target_rows: `[T]` or `[T, K]` int64, values 1..N; 0 = no target, at least one target in all.
            opinions: of the teachers on the same T queries and N items, at least one; they get no gradient.
        """
        if self.alpha == 0:
            hard: torch.Tensor = self.targets_alone(queries, items, target_rows)
            return hard
        softened = [
            (opinion.queries.detach().float() / self.softening, opinion.item_vectors.detach()[1:].float())
            for opinion in opinions
        ]
        loss: torch.Tensor = _ChunkedMixedCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch
            queries.float() / self.temperature,
            items.item_vectors()[1:].float(),
            target_rows.reshape(len(queries), -1),
            softened,
            (self.alpha, self.chunk),
        )
        return loss


def plain_distilled(
    logits: torch.Tensor, targets: torch.Tensor, teacher_logits: Sequence[torch.Tensor], alpha: float
) -> torch.Tensor:
    """Return the loss of `[T, N]` student logits, `[T]` int64 targets 0..N - 1 and each teacher's `[T, N]` logits."""
    expected = torch.stack([teacher.softmax(-1) for teacher in teacher_logits]).mean(0)
    happened = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    wanted = (1 - alpha) * happened + alpha * expected
    return -(wanted * logits.log_softmax(-1)).sum(-1).mean()


class _ChunkedMixedCrossEntropy(torch.autograd.Function):
    """As the cross-entropy of `FullSoftmax`: gradients are made in the forward pass, chunk by chunk.

    The gradient of the logits is what the student says minus what is wanted, both times the number of targets.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        items: torch.Tensor,
        targets: torch.Tensor,
        teachers: list[tuple[torch.Tensor, torch.Tensor]],
        settings: tuple[float, int],
    ) -> torch.Tensor:
        alpha, chunk = settings
        need_gradient = any(ctx.needs_input_grad[:2])
        query_gradient, item_gradient = torch.empty_like(queries), torch.zeros_like(items)
        buffers = queries.new_empty(3, min(chunk, len(queries)), len(items))
        loss = queries.new_zeros((), dtype=torch.float64)
        real = (targets > 0).to(queries.dtype)  # [T, K]
        columns = (targets - 1).clamp_(min=0)
        for start in range(0, len(queries), chunk):
            rows = slice(start, start + chunk)
            part, weight, column = queries[rows], real[rows] * (1 - alpha), columns[rows]
            count = real[rows].sum(1, keepdim=True)
            student, wanted, spare = buffers[:, : len(part)]
            torch.mm(part, items.T, out=student)
            log_probability = torch.log_softmax(student, dim=-1, out=student)
            _mean_probability([(asked[rows], table) for asked, table in teachers], wanted, spare)
            wanted.mul_(alpha * count)
            loss -= (log_probability.gather(1, column) * weight).sum()
            loss -= torch.mul(wanted, log_probability, out=spare).sum(dtype=torch.float64)
            if need_gradient:
                gradient = log_probability.exp_().mul_(count).sub_(wanted)
                gradient.scatter_add_(1, column, -weight)
                torch.mm(gradient, items, out=query_gradient[rows])
                item_gradient.addmm_(gradient.T, part)
        num_targets = real.sum()
        ctx.save_for_backward(query_gradient / num_targets, item_gradient / num_targets)
        return (loss / num_targets).to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_gradient, item_gradient = ctx.saved_tensors
        return upstream[0] * query_gradient, upstream[0] * item_gradient, None, None, None


def _mean_probability(
    teachers: list[tuple[torch.Tensor, torch.Tensor]], mean: torch.Tensor, spare: torch.Tensor
) -> None:
    """Write the mean of the teachers' softmax into `[T, N]` `mean`; `spare` of the same shape is overwritten."""
    mean.zero_()
    for queries, items in teachers:
        torch.mm(queries, items.T, out=spare)
        mean.add_(torch.softmax(spare, dim=-1, out=spare), alpha=1 / len(teachers))
