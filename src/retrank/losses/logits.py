"""Logits of targets and of negatives shared by the batch: what every sampled loss starts from."""

from collections.abc import Mapping

import torch

from retrank.contract.errors import ConfigError
from retrank.losses.items import Items


def refuse_non_positive(settings: Mapping[str, float]) -> None:
    """Check that each named setting is above zero.

    Raises:
        ConfigError: one is zero, negative or not a number.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ConfigError(f"{name} is {value}; it must be positive")


def uniform_rows(num_negatives: int, num_items: int, device: torch.device) -> torch.Tensor:
    """Draw `[num_negatives]` int64 item rows from 1..num_items, uniformly, with replacement."""
    return torch.randint(1, num_items + 1, (num_negatives,), device=device)


def target_and_negative_logits(
    queries: torch.Tensor,
    items: Items,
    targets: torch.Tensor,
    negative_rows: torch.Tensor,
    *,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score each query against its targets and against the negatives; only the vectors of these items are made.

    Args:
        queries: `[T, D]` float; half precision is widened to float32.
        items: what has the item vectors; half precision is widened too.
        targets: `[T, K]` int64, 0 = none; its logit is computed and means nothing.
        negative_rows: `[M]` int64, shared by all queries.
        temperature: logits are divided by it, > 0.

    Returns:
        `[T, K]` logits of the targets and `[T, M]` of the negatives, -inf where a negative is one of the query's own
        targets, so that it gets no gradient.
    """
    scaled = wide(queries) / temperature
    positive = (scaled[:, None] * wide(items.item_vectors(targets))).sum(-1)  # [T, K]
    negative = scaled @ wide(items.item_vectors(negative_rows)).T  # [T, M]
    own = torch.zeros_like(negative, dtype=torch.bool)
    for column in targets.T:  # one at a time: [T, K, M] would dwarf the logits
        own |= column[:, None] == negative_rows
    return positive, negative.masked_fill_(own, float("-inf"))


def wide(values: torch.Tensor) -> torch.Tensor:
    """Widen half precision to float32; leave the rest."""
    return values if values.dtype == torch.float64 else values.float()


def multiplies_narrow(values: torch.Tensor) -> bool:
    """Whether the run multiplies float32 values like these in bfloat16: autocast says so."""
    kind = values.device.type
    chosen = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return chosen and values.dtype == torch.float32
