"""What the history says about one candidate: events are weighed by the candidate, by their age and by their kind."""

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.models.action_types import forget_some

NUM_EDGES = 31
"""Ages are told apart by powers of two: under 1 s, under 2 s, ... under 34 years, older."""


class EventTerms(nn.Module):
    """What age and kind of an event add to its weight and to its value, whatever its vector is.

    Args:
        width: size of a value; a multiple of `num_heads`.
        num_actions: kinds of events, >= 0; 0 = what was done is not read.
        num_heads: attention heads H.

    Raises:
        ConfigError: a size is out of range.
    """

    edges: torch.Tensor

    def __init__(self, width: int, num_actions: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or width < 1 or width % num_heads or num_actions < 0:
            raise ConfigError(
                f"width {width} must be a multiple of the {num_heads} attention heads, and num_actions {num_actions} "
                "must not be negative; change one of them"
            )
        self.num_heads, self.num_actions = num_heads, num_actions
        self.register_buffer("edges", age_edges(), persistent=False)
        self.age_bias = nn.Parameter(torch.zeros(NUM_EDGES + 1, num_heads))
        self.action_bias = nn.Parameter(torch.zeros(num_actions + 1, num_heads))
        self.age_value = nn.Parameter(0.1 * torch.randn(NUM_EDGES + 1, width))
        self.action_value = nn.Parameter(0.1 * torch.randn(num_actions + 1, width))

    def _terms(self, ages: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `[B, L, W]` values and `[B, H, 1, L]` biases, -inf at padding."""
        if not self.num_actions:
            actions = torch.zeros_like(ages)
        elif self.training:
            actions = forget_some(actions)
        buckets = age_buckets(ages, self.edges)
        value = F.embedding(buckets, self.age_value) + F.embedding(actions, self.action_value)  # [B, L, W]
        bias = F.embedding(buckets, self.age_bias) + F.embedding(actions, self.action_bias)  # [B, L, H]
        return value, bias.masked_fill((ages < 0)[..., None], -torch.inf).transpose(1, 2)[:, :, None]


class TargetAttention(EventTerms):
    """Every candidate reads the history on its own; an event that is nothing to it weighs nothing.

    Events are projected once per request. A candidate may also read nothing at all (a null event whose value is zero),
    so an empty history, or one without anything related, says nothing instead of an average of everything.

    Args:
        vector_width: size D of the retriever's vectors.
        width: size of the result; a multiple of `num_heads`.
        num_actions: kinds of events, >= 0; 0 = what was done is not read.
        num_heads: attention heads H.

    Raises:
        ConfigError: a size is out of range.

    Source: Zhou et al. 2018, DIN (arXiv 1706.06978); time gaps as in Zhai et al. 2024, HSTU (arXiv 2402.17152).
    Deviations: dot products instead of a net per pair, which is a matrix product for all candidates of a request;
    softmax with a null event, which keeps DIN's "nothing matches" without unbounded sums.
    """

    def __init__(self, vector_width: int, width: int, *, num_actions: int = 0, num_heads: int = 4) -> None:
        super().__init__(width, num_actions, num_heads)
        self.ask = nn.Linear(vector_width, width, bias=False)
        self.key = nn.Linear(vector_width, width, bias=False)
        self.value = nn.Linear(vector_width, width)
        self.output = nn.Linear(width, width, bias=False)
        self.key.weight.data.copy_(self.ask.weight.data)  # before training, related means near in the retriever's space

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
        value = self.value(events) + value
        # The null event: key and value zero, bias zero.
        key, value = (F.pad(self._heads(part), (0, 0, 1, 0)) for part in (self.key(events), value))
        bias = F.pad(bias, (1, 0)).expand(-1, -1, candidates.shape[1], -1)  # [B, H, C, L + 1]
        mixed = F.scaled_dot_product_attention(self._heads(self.ask(candidates)), key, value, attn_mask=bias)
        output: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        """Split `[B, L, W]` into `[B, H, L, W / H]`."""
        return torch.unflatten(values, -1, (self.num_heads, -1)).transpose(1, 2)


def age_edges() -> torch.Tensor:
    """Return `[31]` int64 seconds 1, 2, 4, ... 2^30."""
    edges: torch.Tensor = 2 ** torch.arange(NUM_EDGES)
    return edges


def age_buckets(ages: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return how many of the edges an age has reached: `[...]` int64, 0..31.

    Counting compares integers, which torch and ONNX Runtime do alike; a rounded logarithm they do not.
    """
    return (ages[..., None] >= edges).sum(-1)
