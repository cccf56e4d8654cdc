"""What sequence models have in common: who sees whom, first weights, and the sizes that make sense."""

import torch
from torch import nn

from retrank.contract.encode import PADDING_ROW
from retrank.contract.errors import ConfigError

INITIAL_DEVIATION = 0.02


def visible(item_rows: torch.Tensor) -> torch.Tensor:
    """`[B, 1, L, L]` bool: an event sees itself and older real events; so does padding, which keeps softmax finite."""
    length = item_rows.shape[1]
    age = torch.arange(length, device=item_rows.device)
    older, itself = age[:, None] > age, age[:, None] == age
    return (older & (item_rows != PADDING_ROW)[:, None, :] | itself)[:, None]


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Small normal weights, so that residual parts start near zero and the item table dominates; padding is zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0.0


@torch.no_grad()
def start_from(items: nn.Embedding, item_vectors: torch.Tensor) -> None:
    """Take `[N + 1, D]` vectors as the first item table, scaled to the size of random ones."""
    scale = INITIAL_DEVIATION / item_vectors.square().mean().sqrt().clamp(min=1e-12)
    items.weight.copy_(item_vectors * scale)
    items.weight[PADDING_ROW] = 0.0


def check_sequence_model(
    *, max_length: int, width: int, num_blocks: int, num_heads: int, dropout: float, similarity: str
) -> None:
    """Refuse sizes and choices that cannot work.

    Raises:
        ConfigError: one is out of range.
    """
    if num_heads < 1 or width < 1 or width % (2 * num_heads):
        raise ConfigError(f"width {width} is not a multiple of 2 * num_heads ({2 * num_heads}); change one of them")
    for name, value in (("max_length", max_length), ("num_blocks", num_blocks)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; at least 1 is needed")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}; it must be in 0 <= dropout < 1")
    if similarity not in ("cosine", "dot"):
        raise ConfigError(f"similarity is {similarity!r}; expected cosine or dot")
