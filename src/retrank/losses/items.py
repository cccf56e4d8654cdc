"""The item side of a loss: vectors of the whole catalogue, or of the few items a step touches."""

from typing import Protocol

import torch


class Items(Protocol):
    """Anything that has a vector for every item, such as a model; row 0 is padding and its vector is zero."""

    num_items: int

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return `[..., D]` float vectors of `[...]` int64 item rows, or of all as `[N + 1, D]` when none are named.

        A loss that names rows makes a step cost what these rows cost, however large the catalogue is.
        """
        ...


class ItemTable:
    """Items that are nothing but a table; for losses outside a model.

    Args:
        vectors: `[N + 1, D]` float, row 0 is padding.
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        self.num_items, self._vectors = len(vectors) - 1, vectors

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors of some rows, or the table."""
        return self._vectors if item_rows is None else self._vectors[item_rows]
