"""Cross-entropy of targets against negatives that all queries share, in chunks of queries that stay in cache.

The plain way, `target_and_negative_logits` and `logsumexp`, makes a handful of `[T, M]` matrices; in the tests it is
the oracle of this one. Used by `SampledSoftmax`.
"""

from typing import Any

import torch

from retrank.losses.logits import multiplies_narrow

_VALUES_IN_CACHE = 1 << 20


def cross_entropy_with_shared_negatives(
    queries: torch.Tensor,
    negatives: torch.Tensor,
    positive: torch.Tensor,
    *,
    shift: torch.Tensor,
    targets: torch.Tensor,
    rows: torch.Tensor,
    bf16_products: bool = False,
) -> torch.Tensor:
    """Return the mean over targets of log(exp(positive) + sum of exp(negative)) - positive, a scalar.

    Args:
        queries: `[T, D]`, divided by the temperature; all floats of one type, float32 or float64.
        negatives: `[M, D]` vectors of the negatives.
        positive: `[T, K]` logits of the targets.
        shift: `[M]`, taken from the logits of the negatives.
        targets: `[T, K]` int64 item rows, 0 = none.
        rows: `[M]` int64 item rows of the negatives; one that is a target of the query is left out.
        bf16_products: as for `FullSoftmax`.
    """
    narrow = bf16_products and multiplies_narrow(queries)
    loss: torch.Tensor = _SharedNegatives.apply(queries, negatives, positive, shift, targets, rows, narrow)  # type: ignore[no-untyped-call]  # torch
    return loss


class _SharedNegatives(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk of logits is in cache; `backward` scales them."""

    @staticmethod
    def forward(
        ctx: Any, queries: torch.Tensor, negatives: torch.Tensor, positive: torch.Tensor, shift: torch.Tensor,
        targets: torch.Tensor, rows: torch.Tensor, narrow: bool,
    ) -> torch.Tensor:  # fmt: skip
        gradients = torch.empty_like(queries), torch.zeros_like(negatives), torch.empty_like(positive)
        real = (targets > 0).to(queries.dtype)
        lost = queries.new_zeros((), dtype=torch.float64)
        if narrow:
            queries, negatives = queries.bfloat16(), negatives.bfloat16()
        chunk = max(1, _VALUES_IN_CACHE // max(len(rows), 1))
        for start in range(0, len(queries), chunk):
            part = slice(start, start + chunk)
            logits = torch.mm(queries[part], negatives.T).to(positive.dtype).sub_(shift)
            for column in targets[part].T:
                logits.masked_fill_(column[:, None] == rows, -torch.inf)
            probability, rest = _softmax_(logits)
            ahead = positive[part]
            lost += ((torch.logaddexp(ahead, rest) - ahead) * real[part]).sum()
            if not any(ctx.needs_input_grad):
                continue
            share = torch.sigmoid(rest - ahead) * real[part]  # of the loss's gradient, what falls to the negatives
            gradients[2][part] = -share
            gradient = probability.mul_(share.sum(1, keepdim=True)).to(queries.dtype)
            gradients[0][part] = torch.mm(gradient, negatives)
            gradients[1].add_(torch.mm(gradient.T, queries[part]))
        count = real.sum()
        ctx.save_for_backward(*(gradient.div_(count) for gradient in gradients))
        return (lost / count).to(positive.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*(upstream[0] * gradient for gradient in ctx.saved_tensors), None, None, None, None)


def _softmax_(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax, in place, and logsumexp `[C, 1]` of `[C, M]` logits: 0 and -inf where all are -inf."""
    greatest = logits.amax(1, keepdim=True)
    barred = greatest == -torch.inf
    if bool(barred.any()):
        logits.masked_fill_(barred, 0.0)
    probability = torch.softmax(logits, dim=1, out=logits)
    log_sum = greatest - probability.amax(1, keepdim=True).log_()  # the greatest has exp(0) / sum
    return (probability.masked_fill_(barred, 0.0) if bool(barred.any()) else probability), log_sum
