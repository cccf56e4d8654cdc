"""A learned similarity that orders the first few hundred items again; a dot product keeps finding them."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.encode import InputName
from retrank.contract.errors import ConfigError
from retrank.models.blocks import Dropout
from retrank.models.protocols import QueryEncoder
from retrank.models.sequence import SequenceModel, initialise


class MixtureOfLogits(nn.Module):
    """Score a query and an item by a weighted mean of P cosines between parts of the two.

    The query has `query_components` parts and the item `item_components`; every pair of parts gives one cosine, and the
    dot product of query and item vector is one more. A gate that sees the query, the item and all P cosines weighs
    them, so that no low-rank table could hold the scores.

    Args:
        width: size D of queries and item vectors, which have length 1.
        query_components, item_components: parts of each side, >= 1.
        component_width: size of a part, >= 1.
        hidden: width of the nets that make the query's parts and the gate, >= 1.
        dropout: rate on the weights of the mixture, 0 <= rate < 1.

    Raises:
        ConfigError: a size or rate is out of range.

    Source: Zhai et al. 2023 (arXiv 2306.04039), Ding, Zhai 2024 (arXiv 2407.15462). Deviations: the retriever's own dot
    product takes part, with half of the weight in the beginning, so that training starts from the order that is to be
    improved; the parts of the gate are added up; no embedding of the user.
    """

    def __init__(
        self,
        width: int,
        *,
        query_components: int = 8,
        item_components: int = 4,
        component_width: int = 32,
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        sizes = {
            "query_components": query_components,
            "item_components": item_components,
            "component_width": component_width,
            "hidden": hidden,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} is {size}; at least 1 is needed")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout}; it must be in 0 <= dropout < 1")
        self.component_width = component_width
        num_logits = query_components * item_components + 1
        self.query_parts = _net(width, hidden, query_components * component_width)
        self.item_parts = nn.Linear(width, item_components * component_width)
        self.query_gate = _net(width, hidden, num_logits)
        self.item_gate = nn.Linear(width, num_logits, bias=False)
        self.cosine_gate = _net(num_logits, hidden, num_logits)
        self.dropout = Dropout(dropout)
        initialise(self)
        with torch.no_grad():
            last = cast(nn.Linear, self.query_gate[-1])
            last.bias[-1] = math.log(num_logits - 1)  # as much as all other logits together

    def forward(self, queries: torch.Tensor, item_vectors: torch.Tensor) -> torch.Tensor:
        """Score `[B, D]` queries against their own items `[B, C, D]`, or all against the same `[1, C, D]`: `[B, C]`."""
        query_parts = self._parts(self.query_parts(queries))  # [B, Q, E]
        item_parts = self._parts(self.item_parts(item_vectors))  # [B, C, X, E]
        pairs = torch.matmul(query_parts[:, None], item_parts.transpose(-1, -2)).flatten(-2)  # [B, C, Q * X]
        whole = torch.matmul(item_vectors, queries[:, :, None])  # [B, C, 1]
        cosines = torch.cat([pairs, whole], dim=-1)  # [B, C, P]
        gate = self.query_gate(queries)[:, None] + self.item_gate(item_vectors) + self.cosine_gate(cosines)
        scores: torch.Tensor = (self.dropout(gate.softmax(-1)) * cosines).sum(-1)
        return scores

    def _parts(self, values: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.unflatten(values, -1, (-1, self.component_width)), dim=-1)


class WithMixture(nn.Module):
    """Any sequence model, and a mixture of logits that orders its best items again.

    Follows `QueryEncoder` and `Rescoring`. As a query encoder it is the sequence model alone: retrieval, index and
    bundle know nothing of the mixture.

    Args:
        num_items: catalogue size N; item rows are 1..N, 0 is padding.
        encoder: makes the sequence model; gets `num_items`, the settings below and `similarity="cosine"`.
        head: makes the mixture; gets the width.
        max_length: longest history the model reads, in events.
        width: size D of queries and item vectors.
        dropout: rate in the sequence model, 0 <= rate < 1.
        context: fields of the moment of a request and how many values each has; None = it is not read.

    Raises:
        ConfigError: a size or choice is out of range.
    """

    def __init__(
        self,
        num_items: int,
        *,
        encoder: Callable[..., SequenceModel],
        head: Callable[[int], MixtureOfLogits],
        max_length: int = 200,
        width: int = 64,
        dropout: float = 0.2,
        context: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        shared = {"max_length": max_length, "width": width, "dropout": dropout, "similarity": "cosine"}
        self.encoder = encoder(num_items, **shared, **({"context": context} if context else {}))
        self.head = head(width)
        self.num_items, self.max_length, self.width = num_items, max_length, width
        self.similarity = "cosine"

    @property
    def inputs(self) -> tuple[InputName, ...]:
        """Names of the int64 arrays that the sequence model reads; shapes: `contract.encode`."""
        return cast(QueryEncoder, self.encoder).inputs

    def encode_all(self, item_rows: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        """Map the inputs (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        return cast(QueryEncoder, self.encoder).encode_all(item_rows, **others)

    def forward(self, item_rows: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        """Map the inputs (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        query: torch.Tensor = self.encoder(item_rows, **others)
        return query

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return float32 vectors `[..., D]` of item rows `[...]`, or `[N + 1, D]` of all; that of row 0 is zero."""
        return self.encoder.item_vectors(item_rows)

    def rescore(self, queries: torch.Tensor, item_rows: torch.Tensor) -> torch.Tensor:
        """Score `[B, D]` queries against `[C]` items shared by all, or `[B, C]` items of each: `[B, C]` float32."""
        rows = item_rows if item_rows.ndim == 2 else item_rows[None]
        scores: torch.Tensor = self.head(queries, self.item_vectors(rows))
        return scores

    def start_from(self, item_vectors: torch.Tensor) -> None:
        """Take `[N + 1, D]` vectors as the first item table; see `SequenceModel.start_from`."""
        self.encoder.start_from(item_vectors)

    def tabulated(self) -> SequenceModel:
        """Return the sequence model alone, for serving: a bundle does not carry the mixture."""
        return copy.deepcopy(self.encoder)


def _net(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, out))
