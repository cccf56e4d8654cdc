"""The catalogue in tiles that the processor multiplies fast: `metrics.tile_ranking` reads scores from here.

torch's matrix product of two fp32 matrices goes to MKL, which is slow on processors of another maker; oneDNN, in the
same wheel, generates its kernel for the processor it runs on and takes a weight in its own layout. That way is what
torch's compiler emits for a linear layer with constant weights, and has no public name; where it is missing NumPy
multiplies. Both compute in fp32.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.metrics.block_ranking import Pairs
from retrank.metrics.tile_ranking import Tiles
from retrank.models.protocols import Scorer

_WIDTH = 16_384
_BATCH_HINT = 64
_LARGEST = float(np.finfo(np.float32).max) / 4


@runtime_checkable
class Tiled(Scorer, Protocol):
    """A scorer whose scores are products of queries and item vectors, which can be had tile by tile."""

    def queries(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the `[B, D]` float32 query of each history."""
        ...

    @property
    def tiles(self) -> Tiles | None:
        """Return the catalogue in tiles; None = better score it whole."""
        ...


class ItemTiles:
    """Products of queries and item vectors, tile by tile. Call it from threads in which torch uses one thread.

    Args:
        item_vectors: `[N + 1, D]` float32 on the CPU; must not change meanwhile.
        width: items of a tile, >= 1; fewer where there are not so many.
        packed: take oneDNN's layout where torch offers it.
    """

    def __init__(self, item_vectors: torch.Tensor, *, width: int = _WIDTH, packed: bool = True) -> None:
        self.width, self.size = min(width, len(item_vectors)), len(item_vectors)
        self._vectors = item_vectors.detach().contiguous()
        self._packed = packed and can_pack()
        self._tiles = [self._pack(part) for part in torch.split(self._vectors, self.width)]
        self._longest = _longest(self._vectors.numpy())

    def finite(self, queries: NDArray[np.float32]) -> bool:
        """Return whether |query| |item| bounds all scores, and all partial sums of theirs, by a finite number."""
        return _longest(queries) * self._longest < _LARGEST

    def scores(self, queries: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        """Return `[B, n]` float32 scores of a tile for `[B, D]` queries."""
        return self._product(queries, self._tiles[tile])

    def pair_scores(self, queries: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
        """Return `[T]` float32 scores of T pairs of a query and an item row."""
        chosen = self._vectors[torch.from_numpy(np.asarray(pairs[1], dtype=np.int64))]  # packing pays if used again
        return self._product(queries, chosen)[pairs[0], np.arange(len(pairs[1]))]

    def _pack(self, vectors: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.ops.mkldnn._reorder_linear_weight(vectors, _BATCH_HINT) if self._packed else vectors

    def _product(self, queries: NDArray[np.float32], tile: torch.Tensor) -> NDArray[np.float32]:
        if not self._packed:
            return np.asarray(queries @ tile.numpy().T)
        with torch.inference_mode():
            asked = torch.from_numpy(np.ascontiguousarray(queries))
            product: NDArray[np.float32] = torch.ops.mkldnn._linear_pointwise(asked, tile, None, "none", [], "").numpy()
        return product


def can_pack() -> bool:
    """Return whether this build of torch has oneDNN and what is used of it."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]  # torch's own signature
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def _longest(vectors: NDArray[np.float32]) -> float:
    """Return the greatest length of a row; infinite or NaN if it is out of range or there is a NaN."""
    return float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0)))
