"""Train a retriever and the similarity that orders its items again, in one step."""

import math
from typing import Protocol

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items
from retrank.losses.logits import refuse_non_positive, uniform_rows


class RescoredItems(Items, Protocol):
    """Items with a second similarity, such as a model with a mixture of logits."""

    def rescore(self, queries: torch.Tensor, item_rows: torch.Tensor) -> torch.Tensor:
        """Score `[B, D]` queries against `[C]` items shared by all, or `[B, C]` items of each: `[B, C]`."""
        ...


class Rescored(nn.Module):
    """The loss of the retriever plus a sampled softmax over the scores of the second similarity.

    Negatives are uniform and shared by the queries of a step; one that is a query's own target is masked. They stand
    for the whole catalogue, as in `SampledSoftmax`. Gradients of both parts reach the encoder and the item table.

    Args:
        base: the retriever's loss, over (queries, items, targets).
        weight: of the second part, > 0.
        temperature: scores of the second similarity are divided by it, > 0.
        num_negatives: K, >= 1.
        max_queries: queries of a step that take part, at most, chosen at random, >= 1; a pair costs hundreds of times
            what it costs in a dot product.

    Raises:
        ConfigError: a value is out of range.

    Source: Zhai et al. 2023 (arXiv 2306.04039), its joint training with shared negatives.
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        weight: float = 1.0,
        temperature: float = 0.05,
        num_negatives: int = 512,
        max_queries: int = 256,
    ) -> None:
        super().__init__()
        refuse_non_positive({"weight": weight, "temperature": temperature})
        if num_negatives < 1 or max_queries < 1:
            raise ConfigError(
                f"num_negatives is {num_negatives} and max_queries {max_queries}; both must be at least 1"
            )
        self.base, self.weight, self.temperature = base, weight, temperature
        self.num_negatives, self.max_queries = num_negatives, max_queries

    def forward(self, queries: torch.Tensor, items: RescoredItems, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss; arguments as for `FullSoftmax`."""
        retrieval: torch.Tensor = self.base(queries, items, target_rows)
        targets = target_rows.reshape(len(queries), -1)
        if len(queries) > self.max_queries:
            kept = torch.randperm(len(queries), device=queries.device)[: self.max_queries]
            queries, targets = queries[kept], targets[kept]
        return retrieval + self.weight * self._rescoring(queries.float(), items, targets)

    def _rescoring(self, queries: torch.Tensor, items: RescoredItems, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of `[T, K]` targets against shared negatives that stand for the catalogue."""
        rows = uniform_rows(self.num_negatives, items.num_items, queries.device)
        positive = items.rescore(queries, targets).float() / self.temperature  # [T, K]
        negative = items.rescore(queries, rows).float() / self.temperature  # [T, M]
        own = (targets[:, :, None] == rows).any(1)
        stands_for = math.log(items.num_items / self.num_negatives)
        rest = negative.masked_fill(own, float("-inf")).logsumexp(1, keepdim=True) + stands_for
        return (torch.logaddexp(positive, rest) - positive)[targets > 0].mean()
