"""What sequence models have in common: the item table on both sides, who sees whom, first weights, sensible sizes."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.encode import ACTIONS, CONTEXT_ROWS, ITEM_ROWS, PADDING_ROW, InputName
from retrank.contract.errors import ConfigError
from retrank.models.action_types import forget_some
from retrank.models.blocks import Dropout
from retrank.models.request_context import RequestContext

INITIAL_DEVIATION = 0.02


class SequenceModel(nn.Module):
    """The ends of a sequence model: embedded events go in, queries comparable with item vectors come out.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        max_length: longest history the model reads, in events.
        width: size D of states, item vectors and queries.
        dropout: rate on the input, 0 <= rate < 1.
        similarity: "cosine" scales queries and item vectors to length 1; "dot" leaves them.
        num_actions: kinds of events told apart, rows 1..num_actions; 0 = what was done is not read.
        context: fields of the moment of a request and how many values each has; None = it is not read.
    """

    inputs: tuple[InputName, ...]

    def __init__(
        self,
        num_items: int,
        *,
        max_length: int,
        width: int,
        dropout: float,
        similarity: Literal["cosine", "dot"],
        num_actions: int = 0,
        context: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if similarity not in ("cosine", "dot"):
            raise ConfigError(f"similarity is {similarity!r}; expected cosine or dot")
        if max_length < 1:
            raise ConfigError(f"max_length is {max_length}; at least 1 is needed")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout}; it must be in 0 <= dropout < 1")
        if num_actions < 0:
            raise ConfigError(f"num_actions is {num_actions}; expected how many there are in the store, or 0")
        self.num_items, self.max_length, self.width, self.similarity = num_items, max_length, width, similarity
        self.num_actions = num_actions
        self.items = nn.Embedding(num_items + 1, width, padding_idx=PADDING_ROW)
        self.actions = nn.Embedding(num_actions + 1, width, padding_idx=PADDING_ROW) if num_actions else None
        self.context = RequestContext(context, width) if context else None
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return float32 vectors `[..., D]` of item rows `[...]`, or `[N + 1, D]` of all; that of row 0 is zero."""
        if item_rows is None and self.items.sparse and torch.is_grad_enabled():  # its gradient is to name rows
            item_rows = torch.arange(self.num_items + 1, device=self.items.weight.device)
        return self._similar(self.items.weight if item_rows is None else self.items(item_rows))

    @torch.no_grad()
    def start_from(self, item_vectors: torch.Tensor) -> None:
        """Take `[N + 1, D]` vectors as the first item table, scaled to the size of random ones."""
        scale = INITIAL_DEVIATION / item_vectors.square().mean().sqrt().clamp(min=1e-12)
        self.items.weight.copy_(item_vectors * scale)
        self.items.weight[PADDING_ROW] = 0.0

    def _reads(self, *others: InputName) -> tuple[InputName, ...]:
        """Return the names of all inputs, given those besides item rows, actions and the context."""
        actions, context = (ACTIONS,) if self.num_actions else (), (CONTEXT_ROWS,) if self.context else ()
        return (ITEM_ROWS, *others, *actions, *context)

    def _embed(self, item_rows: torch.Tensor, actions: torch.Tensor | None = None) -> torch.Tensor:
        """Map `[B, L]` item rows, and action rows if they are read, to the first states, `[B, L, D]`."""
        if item_rows.shape[1] > self.max_length:
            raise ValueError(
                f"{item_rows.shape[1]} events, the model reads {self.max_length}; cut to the newest ones first"
            )
        events = self.items(item_rows)
        if self.actions is not None:
            assert actions is not None, "a model that reads actions is given them"
            known = torch.where(item_rows != PADDING_ROW, actions, PADDING_ROW)
            events = events + self.actions(forget_some(known) if self.training else known)
        embedded: torch.Tensor = self.dropout(events * self.width**0.5)
        return embedded

    def _query(self, states: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Map last states `[..., D]`, and rows of the context `[..., F]` if it is read, to queries."""
        queries = self.norm(states)
        if self.context is not None:
            assert context is not None, "a model that reads the context is given it"
            queries = queries + self.context(queries, context)
        return self._similar(queries)

    def _similar(self, vectors: torch.Tensor) -> torch.Tensor:
        return F.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors


def newest(context: torch.Tensor | None) -> torch.Tensor | None:
    """Return `[B, F]`, the context of the moment after the newest event, out of `[B, P, F]`."""
    return None if context is None else context[:, -1]


def check_blocks(width: int, num_blocks: int, num_heads: int) -> None:
    """Refuse sizes of attention that cannot work.

    Raises:
        ConfigError: one is out of range.
    """
    if num_heads < 1 or width < 1 or width % (2 * num_heads):
        raise ConfigError(f"width {width} is not a multiple of 2 * num_heads ({2 * num_heads}); change one of them")
    if num_blocks < 1:
        raise ConfigError(f"num_blocks is {num_blocks}; at least 1 is needed")


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
