"""SASRec: self-attention over a user's event history, one query vector per position."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.models.blocks import Attention, ClassicBlock, GatedBlock, ReluNet, SwiGLU
from retrank.models.sequence import SequenceModel, check_blocks, initialise, newest, visible

_FLAVOURS = {"classic": (ClassicBlock, ReluNet), "gated": (GatedBlock, SwiGLU)}
_EXPANSION = 4


class SASRec(SequenceModel):
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
        num_actions: kinds of events told apart, those of the store; 0 = what was done is not read.
        context: fields of the moment of a request and how many values each has; None = it is not read.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Kang, McAuley 2018 (arXiv 1808.09781). Deviations: rotary positions instead of learned absolute ones. All
    positions of a crop are supervised, so an index counted from the newest event would differ between training (many
    events before it) and serving (always 0), and one counted from the oldest would change with the padding; distances
    do neither. No dropout on attention weights. Norms come first. Feed-forward nets are 4 * D wide.
    """

    def __init__(  # noqa: PLR0913  (each is a choice of its own, and named where it is used)
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
        num_actions: int = 0,
        context: Mapping[str, int] | None = None,
    ) -> None:
        check_blocks(width, num_blocks, num_heads)
        super().__init__(
            num_items,
            max_length=max_length,
            width=width,
            dropout=dropout,
            similarity=similarity,
            num_actions=num_actions,
            context=context,
        )
        self.inputs = self._reads()
        _check_flavour(flavour)
        block, net = _FLAVOURS[flavour]
        self.blocks = nn.ModuleList(
            block(Attention(width, num_heads, max_length), net(width, _EXPANSION * width), width=width, dropout=dropout)
            for _ in range(num_blocks)
        )
        initialise(self)

    def encode_all(
        self, item_rows: torch.Tensor, actions: torch.Tensor | None = None, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        allowed = visible(item_rows)
        states = self._embed(item_rows, actions)
        for block in self.blocks:
            states = block(states, allowed)
        return self._query(states, context)

    def forward(
        self, item_rows: torch.Tensor, actions: torch.Tensor | None = None, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        allowed = visible(item_rows)
        states = self._embed(item_rows, actions)
        for block in self.blocks[:-1]:
            states = block(states, allowed)
        last = self.blocks[-1].newest(states, allowed)[:, 0]  # type: ignore[operator]  # ModuleList forgets Block
        return self._query(last, newest(context))


def _check_flavour(flavour: str) -> None:
    if flavour not in _FLAVOURS:
        raise ConfigError(f"flavour is {flavour!r}; expected one of {', '.join(_FLAVOURS)}")
