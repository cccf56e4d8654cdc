"""What the history says about one candidate, read from how near its events are, how old and of which kind."""

import torch
from torch import nn
from torch.nn import functional as F

from retrank.models.target_attention import EventTerms


class CosineAttention(EventTerms):
    """Target attention that sees vectors through their cosines alone.

    `TargetAttention` learns projections of the retriever's vectors, thousands of numbers that thousands of requests
    cannot tell. Here the likeness of a candidate and an event is the retriever's own, and what is learned are some
    hundred numbers: how sharply likeness counts, and what age and kind of an event add. A turn of all vectors changes
    nothing. A candidate may also read nothing at all, as in `TargetAttention`.

    Args:
        width: size of the result; a multiple of `num_heads`.
        num_actions: kinds of events, >= 0; 0 = what was done is not read.
        num_heads: attention heads H.

    Raises:
        ConfigError: a size is out of range.
    """

    def __init__(self, width: int, *, num_actions: int = 0, num_heads: int = 4) -> None:
        super().__init__(width, num_actions, num_heads)
        self.sharpness = nn.Parameter(torch.full((num_heads,), 5.0))
        self.likeness = nn.Parameter(0.1 * torch.randn(num_heads, 1, width // num_heads))
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self, candidates: torch.Tensor, events: torch.Tensor, ages: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """Let C candidates read L events.

        Args:
            candidates: `[B, C, D]` float32.
            events: `[B, L, D]` float32.
            ages: `[B, L]` int64 seconds; -1 = padding.
            actions: `[B, L]` int64 action + 1; 0 = unknown.

        Returns:
            `[B, C, width]` float32; zero where there is no event.
        """
        value, bias = self._terms(ages, actions)
        near = F.normalize(candidates, dim=-1) @ F.normalize(events, dim=-1).transpose(1, 2)  # [B, C, L]
        logits = self.sharpness[:, None, None] * near[:, None] + bias  # [B, H, C, L]
        weights = F.pad(logits, (1, 0)).softmax(-1)[..., 1:]  # the null event: logit zero, value zero
        mixed = weights @ torch.unflatten(value, -1, (self.num_heads, -1)).transpose(1, 2)  # [B, H, C, W / H]
        mixed = mixed + (weights * near[:, None]).sum(-1, keepdim=True) * self.likeness
        output: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output
