"""SASRec: self-attention over a user's event history, one query vector per position."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.encode import PADDING_ROW
from retrank.contract.errors import ConfigError
from retrank.models.blocks import Attention, ClassicBlock, Dropout, GatedBlock, ReluNet, SwiGLU

_FLAVOURS = {"classic": (ClassicBlock, ReluNet), "gated": (GatedBlock, SwiGLU)}
_EXPANSION = 4
_INITIAL_DEVIATION = 0.02


class SASRec(nn.Module):
    """Causal transformer over item rows; input and output share one item table. Follows `QueryEncoder`.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        max_length: longest history the model reads, in events.
        width: size D of states, item vectors and queries; a multiple of `2 * num_heads`.
        num_blocks: attention blocks, >= 1.
        num_heads: attention heads H.
        dropout: rate on the input and on each part of a block, 0 <= rate < 1.
        flavour: "classic" (pre-norm, ReLU) or "gated" (gated residuals, SwiGLU).
        similarity: "cosine" scales queries and item vectors to length 1; "dot" leaves them. Either way
            score = query . item vector; a temperature belongs to the loss.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Kang, McAuley 2018 (arXiv 1808.09781). Deviations: rotary positions instead of learned absolute ones. All
    positions of a crop are supervised, so an index counted from the newest event would differ between training (many
    events before it) and serving (always 0), and one counted from the oldest would change with the padding; distances
    do neither. No dropout on attention weights. Norms come first. Feed-forward nets are 4 * D wide.
    """

    def __init__(
        self,
        num_items: int,
        *,
        max_length: int = 200,
        width: int = 64,
        num_blocks: int = 2,
        num_heads: int = 2,
        dropout: float = 0.2,
        flavour: Literal["classic", "gated"] = "gated",
        similarity: Literal["cosine", "dot"] = "cosine",
    ) -> None:
        super().__init__()
        _check_sizes(max_length, width, num_blocks, num_heads, dropout)
        _check_choices(flavour, similarity)
        self.num_items, self.max_length, self.width, self.similarity = num_items, max_length, width, similarity
        block, net = _FLAVOURS[flavour]
        self.items = nn.Embedding(num_items + 1, width, padding_idx=PADDING_ROW)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            block(Attention(width, num_heads, max_length), net(width, _EXPANSION * width), width=width, dropout=dropout)
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def encode_all(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Map `[B, L]` int64 item rows (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        allowed = _visible(item_rows)
        states = self._embed(item_rows)
        for block in self.blocks:
            states = block(states, allowed)
        return self._similar(self.norm(states))

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Map `[B, L]` int64 item rows (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        allowed = _visible(item_rows)
        states = self._embed(item_rows)
        for block in self.blocks[:-1]:
            states = block(states, allowed)
        newest = self.blocks[-1].newest(states, allowed)[:, 0]  # type: ignore[operator]  # ModuleList forgets Block
        return self._similar(self.norm(newest))

    def item_vectors(self) -> torch.Tensor:
        """Return `[N + 1, D]` float32 item vectors; row 0 is zero."""
        return self._similar(self.items.weight)

    @torch.no_grad()
    def start_from(self, item_vectors: torch.Tensor) -> None:
        """Take `[N + 1, D]` vectors as the first item table, scaled to the size of random ones."""
        scale = _INITIAL_DEVIATION / item_vectors.square().mean().sqrt().clamp(min=1e-12)
        self.items.weight.copy_(item_vectors * scale)
        self.items.weight[PADDING_ROW] = 0.0

    def _embed(self, item_rows: torch.Tensor) -> torch.Tensor:
        if item_rows.shape[1] > self.max_length:
            raise ValueError(
                f"{item_rows.shape[1]} events, the model reads {self.max_length}; cut to the newest ones first"
            )
        embedded: torch.Tensor = self.dropout(self.items(item_rows) * self.width**0.5)
        return embedded

    def _similar(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors

    def _initialise(self) -> None:
        """Small normal weights, so that residual parts start near zero and the item table dominates."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.items.weight[PADDING_ROW] = 0.0


def _visible(item_rows: torch.Tensor) -> torch.Tensor:
    """`[B, 1, L, L]` bool: an event sees itself and older real events; so does padding, which keeps softmax finite."""
    length = item_rows.shape[1]
    age = torch.arange(length, device=item_rows.device)
    older, itself = age[:, None] > age, age[:, None] == age
    return (older & (item_rows != PADDING_ROW)[:, None, :] | itself)[:, None]


def _check_sizes(max_length: int, width: int, num_blocks: int, num_heads: int, dropout: float) -> None:
    if num_heads < 1 or width < 1 or width % (2 * num_heads):
        raise ConfigError(f"width {width} is not a multiple of 2 * num_heads ({2 * num_heads}); change one of them")
    for name, value in (("max_length", max_length), ("num_blocks", num_blocks)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; at least 1 is needed")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}; it must be in 0 <= dropout < 1")


def _check_choices(flavour: str, similarity: str) -> None:
    if flavour not in _FLAVOURS:
        raise ConfigError(f"flavour is {flavour!r}; expected one of {', '.join(_FLAVOURS)}")
    if similarity not in ("cosine", "dot"):
        raise ConfigError(f"similarity is {similarity!r}; expected cosine or dot")
