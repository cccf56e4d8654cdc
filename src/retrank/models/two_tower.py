"""Two towers: a query from a user's history on one side, an item from its id and its content on the other."""

import copy
from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
from torch import nn

from retrank.contract.encode import PADDING_ROW, InputName
from retrank.contract.item_content import ContentArrays
from retrank.models.content_side import ContentSide
from retrank.models.item_tower import ItemTower
from retrank.models.protocols import QueryEncoder
from retrank.models.sequence import SequenceModel


class TwoTower(nn.Module):
    """Any sequence model as the query tower; where it had an item table, on both sides, stands an item tower.

    Follows `QueryEncoder`. The towers share item vectors: an item nobody has touched can be recommended, and read in a
    history, from its content alone.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        history: makes the history encoder; gets `num_items` and the settings below.
        content: what each item is, `[N + 1, ...]`; None = ids only, or the content of the state that is loaded.
        max_length: longest history the model reads, in events.
        width: size D of queries and item vectors.
        dropout: rate in the history encoder, 0 <= rate < 1.
        id_dropout: share of items that go by their content alone in a training step, 0 <= share < 1.
        similarity: "cosine" scales queries and item vectors to length 1; "dot" leaves them.
        num_actions: kinds of events the history encoder tells apart, those of the store; 0 = it does not read them.
        context: fields of the moment of a request that the query reads, and how many values each has; None = none.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Covington et al. 2016 (RecSys), Yi et al. 2019 (RecSys). Deviation: item vectors are shared by both towers,
    as in sequence models.
    """

    def __init__(  # noqa: PLR0913  (each is a choice of its own, and named where it is used)
        self,
        num_items: int,
        *,
        history: Callable[..., SequenceModel],
        content: ContentArrays | None = None,
        max_length: int = 100,
        width: int = 64,
        dropout: float = 0.2,
        id_dropout: float = 0.2,
        similarity: Literal["cosine", "dot"] = "cosine",
        num_actions: int = 0,
        context: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        shared = {"max_length": max_length, "width": width, "dropout": dropout, "similarity": similarity}
        told = {"context": context} if context else {}
        self.history = history(num_items, **shared, num_actions=num_actions, **told)
        tower = ItemTower(self.history.items, content=content, id_dropout=id_dropout)
        self.history.items = tower  # type: ignore[assignment]  # it reads like an embedding
        self.num_items, self.max_length, self.width = num_items, max_length, width
        self.similarity = similarity

    @property
    def inputs(self) -> tuple[InputName, ...]:
        """Names of the int64 arrays that the history encoder reads; shapes: `contract.encode`."""
        return cast(QueryEncoder, self.history).inputs

    @property
    def tower(self) -> ItemTower:
        """The item tower."""
        tower = self.history.items
        assert isinstance(tower, ItemTower)
        return tower

    def encode_all(self, item_rows: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        """Map the inputs (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        return cast(QueryEncoder, self.history).encode_all(item_rows, **others)

    def forward(self, item_rows: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        """Map the inputs (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        query: torch.Tensor = self.history(item_rows, **others)
        return query

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return float32 vectors `[..., D]` of item rows `[...]`, or `[N + 1, D]` of all; that of row 0 is zero."""
        return self.history.item_vectors(item_rows)

    @torch.no_grad()
    def start_from(self, item_vectors: torch.Tensor) -> None:
        """Take `[N + 1, D]` vectors as the first id table; see `SequenceModel.start_from`."""
        tower = self.tower
        self.history.items = tower.ids
        self.history.start_from(item_vectors)
        self.history.items = tower  # type: ignore[assignment]  # it reads like an embedding

    def content_side(self) -> ContentSide | None:
        """Return what gives an untouched item its vector, for serving; None without content."""
        content = self.tower.content
        return None if content is None else ContentSide(content, unit=self.similarity == "cosine")

    @torch.no_grad()
    def tabulated(self) -> SequenceModel:
        """Return the same query encoder with the vectors of today's catalogue as a plain table, for serving."""
        tower, was_training = self.tower, self.training
        table = self.eval().tower.weight.detach().clone()
        self.train(was_training)
        self.history.items = nn.Embedding(len(table), self.width, padding_idx=PADDING_ROW, _weight=table)
        plain = copy.deepcopy(self.history)
        self.history.items = tower  # type: ignore[assignment]  # it reads like an embedding
        return plain.train(was_training)
