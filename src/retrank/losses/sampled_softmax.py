"""Softmax against a shared random sample of the catalogue, for catalogues too large for all items at every step."""

import math

import torch
from torch import nn

from retrank.contract.errors import ConfigError


class SampledSoftmax(nn.Module):
    """Mean cross-entropy of each target against itself and K negatives shared by the batch.

    Negatives are drawn uniformly with replacement. The logQ correction adds `log(N / K)` to their logits, so that
    the sum over negatives estimates the sum over the catalogue, and the loss that of `FullSoftmax` (from below, by
    Jensen's inequality; the gap closes as K grows). A negative that is one of the query's own targets is masked.

    Args:
        num_negatives: K, >= 1.
        temperature: logits are divided by it, > 0.

    Source: Bengio, Senécal 2008 (IEEE Transactions on Neural Networks 19). The target is always present, hence it gets
    no correction.
    """

    def __init__(self, *, num_negatives: int = 512, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0 or num_negatives < 1:
            raise ConfigError(f"temperature is {temperature}, num_negatives {num_negatives}; both must be positive")
        self.num_negatives, self.temperature = num_negatives, temperature

    def forward(self, queries: torch.Tensor, item_vectors: torch.Tensor, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets; arguments as for `FullSoftmax`."""
        num_items, targets = len(item_vectors) - 1, target_rows.reshape(len(queries), -1)  # [T, K]
        negative_rows = torch.randint(1, num_items + 1, (self.num_negatives,), device=queries.device)
        scaled = queries.float() / self.temperature
        positive = (scaled[:, None] * item_vectors[targets].float()).sum(-1)  # [T, K]
        correction = math.log(num_items / self.num_negatives)
        negative = scaled @ item_vectors[negative_rows].float().T + correction  # [T, negatives]
        is_target = (targets[:, :, None] == negative_rows).any(1)
        rest = negative.masked_fill(is_target, float("-inf")).logsumexp(1, keepdim=True)  # [T, 1]
        return (torch.logaddexp(positive, rest) - positive)[targets > 0].mean()
