"""What the rest of retrank may rely on in a model."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.encode import InputName
from retrank.contract.sequences import Sequences


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores the whole catalogue for a batch of histories; all baselines and trained models do."""

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores for B histories; higher is better, column = item row, column 0 unused.

        Scores are finite; -inf marks an item the scorer cannot recommend at all.
        """
        ...


@runtime_checkable
class Preparable(Scorer, Protocol):
    """A scorer that can do once what all calls share, such as computing item vectors."""

    def prepared(self) -> Scorer:
        """Return a scorer of the present weights; an array it returns is good until its next call."""
        ...


@runtime_checkable
class Fittable(Scorer, Protocol):
    """A baseline: counts or solves once, no gradient."""

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Learn from U histories over item rows 1..num_items."""
        ...


class QueryEncoder(Protocol):
    """A trainable sequence model; plain tensors in and out so that the exported graph is the trained one."""

    num_items: int
    max_length: int
    width: int

    @property
    def inputs(self) -> tuple[InputName, ...]:
        """Return the names of the int64 arrays it reads, which are its arguments; shapes: `contract.encode`."""
        ...

    @property
    def encode_all(self) -> Callable[..., torch.Tensor]:
        """Map the inputs by name (left-padded with 0) to `[B, L, D]` float32, one query per position."""
        ...

    @property
    def forward(self) -> Callable[..., torch.Tensor]:
        """Map the inputs by name (left-padded with 0) to the `[B, D]` float32 query after the newest event."""
        ...

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return float32 vectors `[..., D]` of item rows `[...]`, or `[N + 1, D]` of all; that of row 0 is zero.

        score = query . item vector. Naming rows costs what these rows cost.
        """
        ...


@runtime_checkable
class Tabulated(Protocol):
    """A query encoder that computes its item vectors and can hand them over as a plain table, for export."""

    def tabulated(self) -> QueryEncoder:
        """Return an encoder with the same queries and the same item vectors."""
        ...


@runtime_checkable
class Rescoring(Protocol):
    """A query encoder with a second, dearer similarity for the few items that its dot product finds."""

    num_items: int

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """As in `QueryEncoder`."""
        ...

    def rescore(self, queries: torch.Tensor, item_rows: torch.Tensor) -> torch.Tensor:
        """Score `[B, D]` queries against `[C]` items shared by all, or `[B, C]` items of each: `[B, C]` float32."""
        ...
