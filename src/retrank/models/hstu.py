"""HSTU: pointwise attention over a user's event history that knows how long ago every event was."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.encode import AGES
from retrank.models.blocks import Dropout
from retrank.models.sequence import INITIAL_DEVIATION, SequenceModel, check_blocks, initialise, newest, visible

_NUM_BUCKETS = 128
_BUCKET_WIDTH = 0.301
"""Gaps of g seconds fall into bucket `ln(g) / 0.301`: each bucket reaches 35 % further than the one before."""


class HSTU(SequenceModel):
    """Hierarchical sequential transduction unit; input and output share one item table. Follows `QueryEncoder`.

    An event is weighed by what it is, by its distance in events, and by the time between it and the moment that is
    asked about: for a position inside the history that moment is the next event's, for the newest it is the request.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        max_length: longest history the model reads, in events.
        width: size D of states, item vectors and queries; a multiple of `2 * num_heads`.
        num_blocks: blocks, >= 1.
        num_heads: attention heads H.
        dropout: rate on the input and on the output of each block, 0 <= rate < 1.
        time_bias: read the ages of events; needs data with times.
        similarity: "cosine" scales queries and item vectors to length 1; "dot" leaves them.
        num_actions: kinds of events told apart, those of the store; 0 = what was done is not read.
        context: fields of the moment of a request and how many values each has; None = it is not read.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Zhai et al. 2024 (arXiv 2402.17152). Deviations: sums over events are divided by how many events the
    position sees, not by a fixed length, so that short histories are not damped and padding changes nothing; no
    absolute positions, which would differ between a crop in training and a request.
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
        time_bias: bool = True,
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
        self.inputs = self._reads(AGES) if time_bias else self._reads()
        self.blocks = nn.ModuleList(
            HSTUBlock(width, num_heads, max_length, dropout=dropout, time_bias=time_bias) for _ in range(num_blocks)
        )
        initialise(self)

    def encode_all(
        self,
        item_rows: torch.Tensor,
        ages: torch.Tensor | None = None,
        actions: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        states, allowed, gaps = self._read(item_rows, ages, actions)
        for block in self.blocks:
            states = block(states, states, allowed, gaps)
        return self._query(states, context)

    def forward(
        self,
        item_rows: torch.Tensor,
        ages: torch.Tensor | None = None,
        actions: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map `[B, L]` int64 inputs (left-padded with 0) to the `[B, D]` float32 query of the request."""
        states, allowed, gaps = self._read(item_rows, ages, actions)
        for block in self.blocks[:-1]:
            states = block(states, states, allowed, gaps)
        newest_gaps = None if gaps is None else gaps[:, -1:]
        last = self.blocks[-1](states, states[:, -1:], allowed[:, :, -1:], newest_gaps)[:, 0]
        return self._query(last, newest(context))

    def _read(
        self, item_rows: torch.Tensor, ages: torch.Tensor | None, actions: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return states `[B, L, D]`, who sees whom `[B, 1, L, L]`, and time buckets `[B, L, L]` if times are read."""
        states = self._embed(item_rows, actions)
        return states, visible(item_rows), None if ages is None else time_buckets(ages)


class HSTUBlock(nn.Module):
    """Pointwise attention whose result is gated by the reader: `x + f(norm(attention) * u)`."""

    def __init__(self, width: int, num_heads: int, max_length: int, *, dropout: float, time_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.read = nn.Linear(width, 2 * width)  # v, k: of every event
        self.ask = nn.Linear(width, 2 * width)  # u, q: of the positions that read
        self.write = nn.Linear(width, width)
        self.norm, self.attended_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.by_distance = nn.Parameter(INITIAL_DEVIATION * torch.randn(num_heads, max_length))
        self.by_gap = nn.Parameter(INITIAL_DEVIATION * torch.randn(_NUM_BUCKETS, num_heads)) if time_bias else None
        self.dropout = Dropout(dropout)

    def forward(
        self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor, gaps: torch.Tensor | None
    ) -> torch.Tensor:
        """Let the newest R of L positions read.

        Args:
            states: `[B, L, D]`, all positions.
            readers: `[B, R, D]`, the newest R of them.
            allowed: `[B, 1, R, L]` bool, who sees whom.
            gaps: `[B, R, L]` int64 time buckets; None when times are not read.
        """
        value, key = (self._heads(part) for part in F.silu(self.read(self.norm(states))).chunk(2, dim=-1))
        gate, query = F.silu(self.ask(self.norm(readers))).chunk(2, dim=-1)
        logits = self._heads(query) @ key.transpose(-1, -2) / key.shape[-1] ** 0.5 + self._bias(readers, states, gaps)
        weights = F.silu(logits).masked_fill(~allowed, 0.0) / allowed.sum(-1, keepdim=True)
        attended = (weights @ value).transpose(1, 2).flatten(2)  # [B, R, D]
        result: torch.Tensor = readers + self.dropout(self.write(self.attended_norm(attended) * gate))
        return result

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """Split `[B, L, D]` into `[B, H, L, D / H]`."""
        batch, length, width = states.shape
        return states.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)

    def _bias(self, readers: torch.Tensor, states: torch.Tensor, gaps: torch.Tensor | None) -> torch.Tensor:
        """Return what distance and time alone say, `[B or 1, H, R, L]`."""
        num_readers, length = readers.shape[1], states.shape[1]
        place = torch.arange(length, device=states.device)
        distance = (place[length - num_readers :, None] - place).clamp(min=0)
        bias = self.by_distance[:, distance][None]
        return bias if gaps is None or self.by_gap is None else bias + self.by_gap[gaps].permute(0, 3, 1, 2)


def time_buckets(ages: torch.Tensor) -> torch.Tensor:
    """Return `[B, L, L]` int64: for reader i the bucket of the time from event j to the moment i is asked about.

    Args:
        ages: `[B, L]` int64 seconds from each event to the request.
    """
    asked = F.pad(ages[:, 1:], (0, 1))  # [B, L]: the age of the moment a position is asked about
    gaps = (ages[:, None, :] - asked[:, :, None]).clamp(min=1).float()
    return (gaps.log() / _BUCKET_WIDTH).long().clamp(max=_NUM_BUCKETS - 1)
