"""Bayesian personalised ranking: a target should score above a random item."""

import torch
from torch import nn
from torch.nn import functional as F

from retrank.losses.items import Items
from retrank.losses.logits import refuse_non_positive, target_and_negative_logits, uniform_rows


class BPR(nn.Module):
    """Mean of `-log sigmoid(target - negative)` over all pairs of a target and one of K shared negatives.

    Negatives are drawn uniformly with replacement. A negative that is one of the query's own targets makes no pair.

    Args:
        num_negatives: K, >= 1.
        temperature: logits are divided by it, > 0.

    Raises:
        ConfigError: a value is out of range.

    Source: Rendle et al. 2009 (arXiv 1205.2618). Deviations: K negatives shared by the batch instead of one per
    target; the penalty on weights is left to the optimizer.
    """

    def __init__(self, *, num_negatives: int = 256, temperature: float = 1.0) -> None:
        super().__init__()
        refuse_non_positive({"temperature": temperature, "num_negatives": num_negatives})
        self.num_negatives, self.temperature = num_negatives, temperature

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, 0 if there is no pair; arguments as for `FullSoftmax`."""
        targets = target_rows.reshape(len(queries), -1)  # [T, K]
        rows = uniform_rows(self.num_negatives, items.num_items, queries.device)
        positive, negative = target_and_negative_logits(queries, items, targets, rows, temperature=self.temperature)
        real = targets > 0
        behind = negative[real.nonzero()[:, 0]] - positive[real][:, None]  # [real targets, negatives]; -inf = no pair
        num_pairs = behind.isfinite().sum().clamp(min=1)
        return F.softplus(behind).sum() / num_pairs
