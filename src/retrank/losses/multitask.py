"""One loss for all heads of a ranker: probabilities over the whole space, amounts where there are any, and order."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.contract.heads import Head, check_heads

LISTWISE = "listwise"
"""Name of the term that orders the candidates of a request."""

_LEAST_LOG_VARIANCE = -4.0


class MultitaskLoss(nn.Module):
    """A weighted sum of one term per head and one for order.

    - A binary head: cross-entropy of its marginal probability over all candidates. For a head that is given another
      one this is the product, learned where nothing was clicked as well: clicks alone would never show that space.
    - A value head: negative log-likelihood of a lognormal amount, where its given head and the amount are positive.
    - Order: softmax over the candidates of a request on the logits of the main head; its positives share the target. A
      candidate that stands for w counts w times in the sum of the softmax (logit + log w), which estimates that of the
      whole request where some candidates were drawn. (With one positive and all others drawn alike, the order would be
      right without weights too, McFadden 1978; but what was shown is never left out, so others are drawn unlike it.)

    Args:
        heads: the heads of the ranker, in its order.
        main: binary head whose order counts; None = the first one.
        listwise: weight of the order, >= 0; 0 = leave it out.
        weights: weight per head, >= 0; 1 where not named.
        weighting: "fixed", or "uncertainty": binary terms and order are divided by a variance that is learned. The
            loss has parameters then, which the optimiser must get. A value term has its own deviation already.

    Raises:
        ConfigError: a weight is negative or names no head, or the main head is not binary.

    Sources: Ma et al. 2018, ESMM (arXiv 1804.07931); Wang et al. 2019, ZILN (arXiv 1912.07753); Sheng et al. 2023,
    calibration and ranking jointly (arXiv 2208.06164); Kendall et al. 2018, uncertainty (arXiv 1705.07115); Bengio and
    Senecal 2003, the sum of a softmax from weighted samples.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        main: str | None = None,
        listwise: float = 0.5,
        weights: Mapping[str, float] | None = None,
        weighting: Literal["fixed", "uncertainty"] = "fixed",
    ) -> None:
        super().__init__()
        check_heads(heads)
        self.heads, self._column = tuple(heads), {head.name: index for index, head in enumerate(heads)}
        binary = [head.name for head in heads if head.kind == "binary"]
        self.main = binary[0] if main is None else main
        self.weights = dict.fromkeys(self._column, 1.0) | dict(weights or {}) | {LISTWISE: listwise}
        if self.main not in binary or LISTWISE in self._column or set(self.weights) - {*self._column, LISTWISE}:
            raise ConfigError(
                f"main head {self.main!r} and weights {sorted(self.weights)} must name heads of {[*self._column]}, the "
                f"main one binary; no head may be called {LISTWISE!r}"
            )
        if not all(0 <= weight < math.inf for weight in self.weights.values()):
            raise ConfigError(f"weights are {self.weights}; each must be finite and at least 0")
        if weighting not in ("fixed", "uncertainty"):
            raise ConfigError(f"weighting is {weighting!r}; expected fixed or uncertainty")
        self._uncertain = (*binary, LISTWISE) if weighting == "uncertainty" else ()
        self.log_variances = nn.Parameter(torch.zeros(len(self._uncertain)))

    def forward(
        self,
        raw: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        importance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scalar loss; arguments as for `terms`."""
        total = raw.new_zeros(())
        for name, term in self.terms(raw, labels, mask, importance).items():
            if name in self._uncertain:
                log_variance = self.log_variances[self._uncertain.index(name)].clamp(min=_LEAST_LOG_VARIANCE)
                term = term * (-log_variance).exp() + log_variance / 2  # noqa: PLW2901  (one term after the other)
            total = total + self.weights[name] * term
        return total

    def terms(
        self,
        raw: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        importance: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the unweighted terms by name of head, and `listwise` if it has a weight.

        Args:
            raw: `[B, C, H, 2]` float, `Ranker.raw`.
            labels: `[B, C, H]` float; binary 0 or 1, value the amount.
            mask: `[B, C]` bool, false = no candidate.
            importance: `[B, C]` float >= 0, how many candidates each stands for; a candidate of importance 2 counts in
                every term as if it stood there twice.
        """
        counted = mask.to(raw.dtype) if importance is None else importance.to(raw.dtype) * mask
        labels = torch.where(mask[..., None], labels, 0.0).to(raw.dtype)  # whatever padding holds
        terms = {}
        for index, head in enumerate(self.heads):
            amounts, (first, second) = labels[..., index], raw[..., index, :].unbind(-1)
            if head.kind == "binary":
                each = F.binary_cross_entropy_with_logits(first, amounts, reduction="none")
                terms[head.name] = _mean(each, counted)
            else:
                assert head.given is not None, "check_heads refuses it"
                sold = (labels[..., self._column[head.given]] > 0) & (amounts > 0)
                terms[head.name] = _mean(lognormal_nll(first, second, amounts, sold), counted * sold)
        if self.weights[LISTWISE] > 0:
            column = self._column[self.main]
            terms[LISTWISE] = _listwise(raw[..., column, 0], labels[..., column], counted)
        return terms


def lognormal_nll(mean: torch.Tensor, spread: torch.Tensor, amounts: torch.Tensor, sold: torch.Tensor) -> torch.Tensor:
    """Return `[...]` negative log-density of the logarithm of amounts under a normal law, 0 where nothing was sold.

    The density of the logarithm, not of the amount: they differ by log(amount), which no parameter can change.
    """
    logarithm = torch.where(sold, amounts, 1.0).log()
    nll = spread.log() + ((logarithm - mean) / spread).square() / 2 + math.log(2 * math.pi) / 2
    return torch.where(sold, nll, 0.0)


def _listwise(logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over requests with a positive of the cross-entropy between shares of gain and softmax of logits.

    Args:
        logits, labels: `[B, C]`.
        counted: `[B, C]` >= 0, how often each candidate stands there; 0 = not at all.
    """
    there = counted > 0
    # A finite floor: a request without any candidate stays finite, and its share is 0.
    weighted = logits + torch.where(there, counted, 1.0).log()
    whole = weighted.masked_fill(~there, torch.finfo(logits.dtype).min / 2).logsumexp(-1, keepdim=True)
    gains = labels * counted
    total = gains.sum(-1)
    behind = gains * torch.where(there, whole - logits, 0.0)
    each = behind.sum(-1) / total.clamp(min=torch.finfo(logits.dtype).tiny)
    return _mean(each, (total > 0).to(logits.dtype))


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean; 0 if nothing has weight."""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)
