"""Full softmax over the catalogue in chunks of rows, so that all logits never exist at once."""

from typing import Any

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items
from retrank.losses.logits import multiplies_narrow


class FullSoftmax(nn.Module):
    """Mean cross-entropy of each target of each query against all N items.

    Args:
        temperature: logits are divided by it, > 0 (0.05 suits cosine similarity, 1 suits dot products).
        chunk: queries per chunk, >= 1; peak memory is `chunk * N` floats, twice that under bf16. Some hundreds fit the
            cache of a CPU core.

        bf16_products: where autocast has chosen bfloat16, the three matrix products take bfloat16 and sum in float32,
            twice as fast where the hardware has it; softmax, loss and the sums over chunks stay float32. Off by
            default: a logit of 20 is then off by up to 0.06, and equal quality has not been shown.
    """

    def __init__(self, *, temperature: float = 1.0, chunk: int = 512, bf16_products: bool = False) -> None:
        super().__init__()
        if temperature <= 0 or chunk < 1:
            raise ConfigError(f"temperature is {temperature} and chunk {chunk}; both must be positive")
        self.temperature, self.chunk, self.bf16_products = temperature, chunk, bf16_products

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets.

        Args:
            queries: `[T, D]` float, T >= 1.
            items: what has the item vectors; row 0 is padding and takes no part.
            target_rows: `[T]` or `[T, K]` int64, values 1..N; 0 = no target, at least one target in all.
        """
        scaled = queries.float() / self.temperature
        targets = target_rows.reshape(len(queries), -1)
        vectors = items.item_vectors()[1:].float()
        narrow = self.bf16_products and multiplies_narrow(scaled)
        loss: torch.Tensor = _ChunkedCrossEntropy.apply(scaled, vectors, targets, self.chunk, narrow)  # type: ignore[no-untyped-call]  # torch
        return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradients are made in the forward pass, while a chunk of logits is still in cache.

    `forward` returns a mean, so the gradients only need scaling in `backward`: no chunk is computed twice. A query with
    several targets costs no more than one with a single target.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, chunk: int, narrow: bool
    ) -> torch.Tensor:
        need_gradient = any(ctx.needs_input_grad[:2])
        query_gradient, item_gradient = torch.empty_like(queries), torch.zeros_like(items)
        buffer = queries.new_empty(min(chunk, len(queries)), len(items))
        loss = queries.new_zeros((), dtype=torch.float64)
        real = (targets > 0).to(queries.dtype)  # [T, K]
        columns = (targets - 1).clamp_(min=0)
        if narrow:
            queries, items = queries.bfloat16(), items.bfloat16()
        for start in range(0, len(queries), chunk):
            rows = slice(start, start + chunk)
            part, weight, column = queries[rows], real[rows], columns[rows]
            logits = _multiply(part, items.T, buffer[: len(part)])
            greatest, wanted = logits.amax(1, keepdim=True), logits.gather(1, column)
            probability = torch.softmax(logits, dim=-1, out=logits)
            log_sum = greatest - probability.amax(1, keepdim=True).log_()  # the greatest has exp(0) / sum
            loss += ((log_sum - wanted) * weight).sum()
            if need_gradient:
                gradient = probability.mul_(weight.sum(1, keepdim=True))
                gradient.scatter_add_(1, column, -weight)
                gradient = gradient.to(part.dtype)
                _multiply(gradient, items, query_gradient[rows])
                _add_product(item_gradient, gradient.T, part)
        count = real.sum()
        ctx.save_for_backward(query_gradient / count, item_gradient / count)
        return (loss / count).to(query_gradient.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        query_gradient, item_gradient = ctx.saved_tensors
        return upstream[0] * query_gradient, upstream[0] * item_gradient, None, None, None


def _multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the product to `out`, which may be wider than its factors."""
    return torch.mm(left, right, out=out) if left.dtype == out.dtype else out.copy_(torch.mm(left, right))


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right)
