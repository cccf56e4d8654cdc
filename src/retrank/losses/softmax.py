"""Full softmax over the catalogue in chunks of rows, so that all logits never exist at once."""

from typing import Any

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items


class FullSoftmax(nn.Module):
    """Mean cross-entropy of each target of each query against all N items.

    Args:
        temperature: logits are divided by it, > 0 (0.05 suits cosine similarity, 1 suits dot products).
        chunk: queries per chunk, >= 1; peak memory is `chunk * N` floats. Some hundreds fit the cache of a CPU core.
    """

    def __init__(self, *, temperature: float = 1.0, chunk: int = 512) -> None:
        super().__init__()
        if temperature <= 0 or chunk < 1:
            raise ConfigError(f"temperature is {temperature} and chunk {chunk}; both must be positive")
        self.temperature, self.chunk = temperature, chunk

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets.

        Args:
            queries: `[T, D]` float, T >= 1.
            items: what has the item vectors; row 0 is padding and takes no part.
            target_rows: `[T]` or `[T, K]` int64, values 1..N; 0 = no target, at least one target in all.
        """
        scaled = queries.float() / self.temperature
        targets = target_rows.reshape(len(queries), -1)
        loss: torch.Tensor = _ChunkedCrossEntropy.apply(scaled, items.item_vectors()[1:].float(), targets, self.chunk)  # type: ignore[no-untyped-call]  # torch
        return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradients are made in the forward pass, while a chunk of logits is still in cache.

    `forward` returns a mean, so the gradients only need scaling in `backward`: no chunk is computed twice. A query with
    several targets costs no more than one with a single target.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        need_gradient = any(ctx.needs_input_grad[:2])
        query_gradient, item_gradient = torch.empty_like(queries), torch.zeros_like(items)
        buffer = queries.new_empty(min(chunk, len(queries)), len(items))
        loss = queries.new_zeros((), dtype=torch.float64)
        real = (targets > 0).to(queries.dtype)  # [T, K]
        columns = (targets - 1).clamp_(min=0)
        for start in range(0, len(queries), chunk):
            rows = slice(start, start + chunk)
            part, weight, column = queries[rows], real[rows], columns[rows]
            logits = torch.mm(part, items.T, out=buffer[: len(part)])
            log_probability = torch.log_softmax(logits, dim=-1, out=logits)
            loss -= (log_probability.gather(1, column) * weight).sum()
            if need_gradient:
                gradient = log_probability.exp_()
                gradient.mul_(weight.sum(1, keepdim=True))
                gradient.scatter_add_(1, column, -weight)
                torch.mm(gradient, items, out=query_gradient[rows])
                item_gradient.addmm_(gradient.T, part)
        count = real.sum()
        ctx.save_for_backward(query_gradient / count, item_gradient / count)
        return (loss / count).to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        query_gradient, item_gradient = ctx.saved_tensors
        return upstream[0] * query_gradient, upstream[0] * item_gradient, None, None
