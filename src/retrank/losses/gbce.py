"""Generalised binary cross-entropy: each item judged on its own, calibrated for the share of negatives sampled."""

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items
from retrank.losses.logits import refuse_non_positive, target_and_negative_logits, uniform_rows


class GeneralisedBCE(nn.Module):
    """Mean over targets of the binary cross-entropy over a target, as sigmoid^beta, and K shared negatives.

    Negatives are drawn uniformly with replacement. A negative that is one of the query's own targets is masked.

    Args:
        num_negatives: K, >= 1.
        calibration: t, 0..1; 0 = plain binary cross-entropy, which overrates all items when negatives are sampled;
            1 = scores as if the whole catalogue had been judged.
        temperature: logits are divided by it, > 0.

    Raises:
        ConfigError: a value is out of range.

    Source: Petrov, Macdonald 2023, gSASRec (arXiv 2308.07192). Deviations: negatives are shared by the batch, which
    makes them one small matrix; a masked negative is left out, not drawn again.
    """

    def __init__(self, *, num_negatives: int = 256, calibration: float = 0.75, temperature: float = 1.0) -> None:
        super().__init__()
        refuse_non_positive({"temperature": temperature, "num_negatives": num_negatives})
        if not 0 <= calibration <= 1:
            raise ConfigError(f"calibration is {calibration}; it must be in 0 <= calibration <= 1")
        self.num_negatives, self.calibration, self.temperature = num_negatives, calibration, temperature

    def beta(self, num_items: int) -> float:
        """Return the exponent of the target's probability, 0 < beta <= 1, for a catalogue of `num_items`.

        With a = K / (N - 1), the share of the negatives that is sampled, at most 1: beta = a (t (1 - 1/a) + 1/a).
        """
        share = min(1.0, self.num_negatives / max(num_items - 1, 1))
        return 1 - self.calibration * (1 - share)

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, a mean over all targets; arguments as for `FullSoftmax`."""
        num_items, targets = items.num_items, target_rows.reshape(len(queries), -1)  # [T, K]
        rows = uniform_rows(self.num_negatives, num_items, queries.device)
        positive, negative = target_and_negative_logits(queries, items, targets, rows, temperature=self.temperature)
        of_target = self.beta(num_items) * F.softplus(-positive)  # -log(sigmoid^beta), finite for any logit
        of_negatives = F.softplus(negative).sum(1, keepdim=True)  # [T, 1]
        return ((of_target + of_negatives) / (self.num_negatives + 1))[targets > 0].mean()
