"""A history as a weighted mean of its events: the cheapest history encoder there is."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from retrank.contract.errors import ConfigError
from retrank.models.blocks import SwiGLU
from retrank.models.sequence import SequenceModel, initialise, newest, visible

_EXPANSION = 2
_HALF_LIFE = 0.25


class PooledHistory(SequenceModel):
    """Mean of the events up to now, bent by a small net. Follows `QueryEncoder`.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        max_length: longest history the model reads, in events.
        width: size D of queries and item vectors, >= 1.
        dropout: rate on the input and on the net, 0 <= rate < 1.
        pooling: "attention" weighs events by what they are and by how many came after them, both learned; "mean"
            weighs them alike and forgets their order.
        similarity: "cosine" scales queries and item vectors to length 1; "dot" leaves them.
        num_actions: kinds of events told apart, those of the store; 0 = what was done is not read.
        context: fields of the moment of a request and how many values each has; None = it is not read.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Covington et al. 2016 (RecSys, "Deep neural networks for YouTube recommendations"), mean of watched items.
    Deviations: the net adds to the mean and does not replace it, so that the model starts as item-to-item similarity;
    events are weighted.
    """

    def __init__(
        self,
        num_items: int,
        *,
        max_length: int = 100,
        width: int = 64,
        dropout: float = 0.2,
        pooling: Literal["attention", "mean"] = "attention",
        similarity: Literal["cosine", "dot"] = "cosine",
        num_actions: int = 0,
        context: Mapping[str, int] | None = None,
    ) -> None:
        if pooling not in ("attention", "mean"):
            raise ConfigError(f"pooling is {pooling!r}; expected attention or mean")
        if width < 1:
            raise ConfigError(f"width is {width}; at least 1 is needed")
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
        self.relevance = nn.Linear(width, 1, bias=False) if pooling == "attention" else None
        self.recency = nn.Parameter(_fading(max_length)) if pooling == "attention" else None
        self.pooled_norm = nn.LayerNorm(width)
        self.net = SwiGLU(width, _EXPANSION * width)
        initialise(self)

    def encode_all(
        self, item_rows: torch.Tensor, actions: torch.Tensor | None = None, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        return self._query(self._pool(self._embed(item_rows, actions), visible(item_rows)[:, 0]), context)

    def forward(
        self, item_rows: torch.Tensor, actions: torch.Tensor | None = None, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        pooled = self._pool(self._embed(item_rows, actions), visible(item_rows)[:, 0, -1:])[:, 0]
        return self._query(pooled, newest(context))

    def _pool(self, events: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Let the last R positions pool `[B, L, D]` events to `[B, R, D]` states; `allowed` `[B, R, L]` says which."""
        scores = torch.zeros_like(allowed, dtype=events.dtype)
        if self.relevance is not None:
            scores = scores + self.relevance(events).transpose(1, 2) + self._recency(*allowed.shape[1:])
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        pooled = weights @ events  # [B, R, D]
        bent: torch.Tensor = pooled + self.dropout(self.net(self.pooled_norm(pooled)))
        return bent

    def _recency(self, readers: int, length: int) -> torch.Tensor:
        """`[R, L]`: what is learned about events that many places before the reader; the future is masked anyway."""
        assert self.recency is not None
        place = torch.arange(length, device=self.recency.device)
        return self.recency[(place[-readers:, None] - place).clamp(min=0)]


def _fading(max_length: int) -> torch.Tensor:
    """`[L]` first logits by number of later events: the weight halves with every quarter of `max_length`."""
    return -math.log(2) / (_HALF_LIFE * max_length) * torch.arange(max_length, dtype=torch.float32)
