"""Softmax against a shared sample of the catalogue, for catalogues too large for all items at every step."""

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items
from retrank.losses.logits import refuse_non_positive, target_and_negative_logits, wide
from retrank.losses.negatives import NegativePool, Negatives
from retrank.losses.shared_negatives import cross_entropy_with_shared_negatives


class SampledSoftmax(nn.Module):
    """Mean cross-entropy of each target against itself and negatives shared by the batch.

    Negatives are uniform (the default), the distinct targets of the batch (`num_negatives=0, num_in_batch=4096`) or
    both. A negative that is one of the query's own targets is masked. The correction takes the logarithm of each
    negative's expected count from its logit, so that the sum over negatives estimates the sum over the catalogue, and
    the loss that of `FullSoftmax` (from below, by Jensen's inequality; the gap closes with more negatives). Without it
    in-batch negatives push popular items down for being popular.

    Args:
        num_negatives: K, drawn uniformly from the catalogue with replacement, >= 0.
        num_in_batch: distinct targets of the batch, at most this many, >= 0; together at least one negative.
        temperature: logits are divided by it, > 0.
        correct: apply the logQ correction; False shows what it is worth.
        refined: leave the target uncorrected, as it is present with certainty; False corrects it like a negative, as
            first published (with uniform negatives alone the correction then cancels). Says nothing if not `correct`.
        frequency_rate: see `GapFrequency`; says nothing without in-batch negatives.
        symmetric: average with the loss of the other direction: of all queries of the batch, which one asked for this
            target? Queries that ask for the item as well are masked; without correction, as each query is there once.
        bf16_products: as for `FullSoftmax`; says nothing if `symmetric`.

    Raises:
        ConfigError: a value is out of range, or `symmetric` without in-batch negatives.

    Source: Bengio, Senécal 2008 (IEEE Transactions on Neural Networks 19); Yi et al. 2019 (RecSys, "Sampling-bias-
    corrected neural modeling"); refined: Khrylchenko et al. 2025 (arXiv 2507.09331). Deviations: the refined loss is
    written as the cross-entropy that has the gradient of the paper's loss with its weight `1 - P(target)`, so that
    its value compares with the full softmax; an expected count is not conditioned on the draw missing the target, as
    masking a draw, unlike repeating it, leaves the counts of other items alone.
    """

    def __init__(
        self,
        *,
        num_negatives: int = 512,
        num_in_batch: int = 0,
        temperature: float = 1.0,
        correct: bool = True,
        refined: bool = True,
        frequency_rate: float = 0.01,
        symmetric: bool = False,
        bf16_products: bool = False,
    ) -> None:
        super().__init__()
        refuse_non_positive({"temperature": temperature})
        if symmetric and not num_in_batch:
            raise ConfigError("symmetric is true and num_in_batch 0; the other direction needs in-batch negatives")
        self.negatives = NegativePool(
            num_uniform=num_negatives, num_in_batch=num_in_batch, frequency_rate=frequency_rate
        )
        self.temperature, self.correct, self.refined = temperature, correct, refined
        self.symmetric, self.bf16_products = symmetric, bf16_products

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets; arguments as for `FullSoftmax`."""
        targets = target_rows.reshape(len(queries), -1)  # [T, K]
        rows, log_counts, target_log_counts = self.negatives(targets, items.num_items)
        if not self.symmetric:
            return self._chunked(queries, items, targets, Negatives(rows, log_counts, target_log_counts))
        positive, negative = target_and_negative_logits(queries, items, targets, rows, temperature=self.temperature)
        backward = self._queries_of_items(positive, negative, targets, rows)
        if self.correct:
            negative = negative - log_counts
            positive = positive if self.refined else positive - target_log_counts
        rest = negative.logsumexp(1, keepdim=True)  # [T, 1]
        forward = (torch.logaddexp(positive, rest) - positive)[targets > 0].mean()
        return (forward + backward) / 2

    def _chunked(
        self, queries: torch.Tensor, items: Items, targets: torch.Tensor, negatives: Negatives
    ) -> torch.Tensor:
        """Return the loss of one direction; the vector of an item is made once, whatever it is needed for."""
        distinct, place = torch.unique(torch.cat([targets.flatten(), negatives.item_rows]), return_inverse=True)
        of_targets, of_negatives = place.split([targets.numel(), len(negatives.item_rows)])
        scaled, vectors = wide(queries) / self.temperature, wide(items.item_vectors(distinct))
        positive = (scaled[:, None] * vectors.index_select(0, of_targets).view(*targets.shape, -1)).sum(-1)
        shift = negatives.log_counts if self.correct else torch.zeros_like(negatives.log_counts)
        if self.correct and not self.refined:
            positive = positive - negatives.target_log_counts
        return cross_entropy_with_shared_negatives(
            scaled,
            vectors.index_select(0, of_negatives),
            positive,
            shift=shift,
            targets=targets,
            rows=negatives.item_rows,
            bf16_products=self.bf16_products,
        )

    @staticmethod
    def _queries_of_items(
        positive: torch.Tensor, negative: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of each query against the other queries, over targets that are among the M rows; else 0."""
        ordered, order = rows.sort()
        place = torch.searchsorted(ordered, targets).clamp(max=len(rows) - 1)
        known = (ordered[place] == targets) & (targets > 0)
        rest = negative.logsumexp(0)[order[place]]  # [T, K]; -inf where every query asks for the item
        lost = torch.logaddexp(positive, rest) - positive
        return torch.where(known, lost, 0.0).sum() / known.sum().clamp(min=1)
