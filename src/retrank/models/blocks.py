"""Transformer parts for event histories: rotary attention, feed-forward nets, and the two ways to join them.

Every block offers two ways in: `forward` for all positions (training) and `newest` for the last position only
(serving: the other positions of the last block feed nothing). Linear layers have no bias where a norm precedes them.
"""

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional as F

_LEVELS = 256


class Dropout(nn.Module):
    """Inverted dropout from random bytes: a quarter of the time of `torch.nn.Dropout` on CPU.

    Args:
        rate: share of values set to zero, 0 <= rate < 1, rounded to a multiple of 1/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.threshold = round(rate * _LEVELS)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop and rescale in training, pass through otherwise; shape and dtype are kept."""
        if not self.training or self.threshold == 0:
            return values
        count = values.numel()
        words = torch.empty((count + 7) // 8, dtype=torch.int64, device=values.device).random_(-(2**63), None)
        kept = (words.view(torch.uint8)[:count] >= self.threshold).view_as(values)
        return values * kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - self.threshold))


class Rotary(nn.Module):
    """Rotate queries and keys by their position so that attention sees only the distance between two events.

    Rows of the table are counted so that the newest event always has the last one. Distances do not change with the
    width of the padding or the start of a crop, which absolute positions would.

    Source: Su et al. 2021, RoFormer (arXiv 2104.09864).
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, head_width: int, max_length: int, base: float = 10_000.0) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        angles = torch.arange(max_length, dtype=torch.float32)[:, None] * frequencies
        angles = torch.cat([angles, angles], dim=-1)  # [L, D/H]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Rotate `[B, H, L, D/H]`; its last position is the newest event."""
        length = values.shape[2]
        first, second = values.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return values * self.cos[-length:] + turned * self.sin[-length:]


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions.

    No dropout on the attention weights: it would forbid fused kernels.
    """

    def __init__(self, width: int, num_heads: int, max_length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.rotary = Rotary(width // num_heads, max_length)

    def forward(self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Let `readers` `[B, Q, D]`, the last Q positions, attend to `states` `[B, L, D]`.

        `allowed` `[B, 1, Q, L]` bool says who sees whom.
        """
        query = self.rotary(self._heads(self.query(readers)))  # [B, H, Q, D/H]
        key, value = self.key_value(states).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            query, self.rotary(self._heads(key)), self._heads(value), attn_mask=allowed
        )
        output: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # [B, Q, D]
        return output

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        return torch.unflatten(values, -1, (self.num_heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """Gated feed-forward net. Source: Shazeer 2020 (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., D]` to `[..., D]`."""
        gate, up = self.gate_up(states).chunk(2, dim=-1)
        down: torch.Tensor = self.down(F.silu(gate) * up)
        return down


class ReluNet(nn.Module):
    """Two-layer feed-forward net of the original SASRec."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., D]` to `[..., D]`."""
        down: torch.Tensor = self.down(F.relu(self.up(states)))
        return down


class Block(nn.Module, ABC):
    """Attention and a feed-forward net, each behind a norm and added to the stream."""

    def __init__(self, attention: Attention, net: nn.Module, *, width: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.net = attention, net
        self.attention_norm = nn.LayerNorm(width)
        self.net_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, states: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Map `[B, L, D]` to `[B, L, D]`; `allowed` `[B, 1, L, L]` bool."""
        return self._advance(states, states, allowed)

    def newest(self, states: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Map `[B, L, D]` to the `[B, 1, D]` state of the newest event."""
        return self._advance(states, states[:, -1:], allowed[:, :, -1:])

    @abstractmethod
    def _advance(self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Move the readers `[B, R, D]` past the stream they read, `[B, L, D]`; `allowed` `[B, 1, R, L]`."""


class ClassicBlock(Block):
    """The block of SASRec, pre-norm: `x + f(norm(x))`. Source: Kang, McAuley 2018 (arXiv 1808.09781)."""

    def _advance(self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        attended = self.attention(self.attention_norm(states), self.attention_norm(readers), allowed)
        readers = readers + self.dropout(attended)
        result: torch.Tensor = readers + self.dropout(self.net(self.net_norm(readers)))
        return result


class GatedBlock(Block):
    """`x + sigmoid(W x) * f(norm(x))`: the stream decides how much of each part it takes.

    Source: Borisyuk et al. 2025, LiGR (arXiv 2502.03417); Tikhonovich et al. 2025, eSASRec (arXiv 2508.06450).
    """

    def __init__(self, attention: Attention, net: nn.Module, *, width: int, dropout: float) -> None:
        super().__init__(attention, net, width=width, dropout=dropout)
        self.attention_gate = nn.Linear(width, width)
        self.net_gate = nn.Linear(width, width)

    def _advance(self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        attended = self.attention(self.attention_norm(states), self.attention_norm(readers), allowed)
        readers = readers + torch.sigmoid(self.attention_gate(readers)) * self.dropout(attended)
        improved = self.dropout(self.net(self.net_norm(readers)))
        result: torch.Tensor = readers + torch.sigmoid(self.net_gate(readers)) * improved
        return result
