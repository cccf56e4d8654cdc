"""Interactions between parts of a state: products that are written out, and a gated net beside them."""

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.models.blocks import Dropout, SwiGLU


class CrossNetwork(nn.Module):
    """Products of ever higher degree: `x + x0 * (U V x + b)`, once per layer.

    Args:
        width: size of the state.
        num_layers: degree - 1 of the highest product, >= 0.
        rank: width between V and U, >= 1.

    Source: Wang et al. 2021, DCN-v2 (arXiv 2008.13535), the low-rank form with one expert.
    """

    def __init__(self, width: int, *, num_layers: int, rank: int) -> None:
        super().__init__()
        if num_layers < 0 or rank < 1:
            raise ConfigError(f"num_cross is {num_layers} and cross_rank {rank}; expected >= 0 and >= 1")
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(num_layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(num_layers))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., D]` to `[..., D]`."""
        crossed = states
        for down, up in zip(self.down, self.up, strict=True):
            crossed = crossed + states * up(down(crossed))
        return crossed


class FeatureCross(nn.Module):
    """A cross network and a gated net read the same state side by side; their results are joined.

    Args:
        width: size of the state.
        num_cross: cross layers, >= 0.
        cross_rank: rank of a cross layer.
        dropout: rate inside the gated net.

    Source: the cross network of DCN-v2; the second stream follows Zhu et al. 2023, FinalNet (FINAL: factorized
    interaction layer for CTR prediction), whose layers are gated products. Deviation: gates are SwiGLU behind a norm.
    """

    def __init__(self, width: int, *, num_cross: int, cross_rank: int, dropout: float) -> None:
        super().__init__()
        self.cross = CrossNetwork(width, num_layers=num_cross, rank=cross_rank)
        self.gated = nn.ModuleList(SwiGLU(width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.gated)
        self.dropout = Dropout(dropout)
        self.joined_norm = nn.LayerNorm(2 * width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., D]` to `[..., 2 D]`."""
        gated = states
        for norm, net in zip(self.norms, self.gated, strict=True):
            gated = gated + self.dropout(net(norm(gated)))
        joined: torch.Tensor = self.joined_norm(torch.cat([self.cross(states), gated], dim=-1))
        return joined
