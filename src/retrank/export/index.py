"""FAISS indexes over item vectors, chosen by catalogue size and tuned to a stated recall.

Inner product throughout: with cosine both sides are unit vectors. Ids are item rows 1..N, so row 0 is never returned.

| items        | family                               | why                                                           |
|--------------|--------------------------------------|---------------------------------------------------------------|
| <= 50,000    | exact scan                           | 0.1 ms; nothing to tune                                       |
| <= 100,000   | inverted lists                       | quick at any vector norms, unlike graphs; nothing is encoded  |
| above        | inverted lists, 4-bit codes, refined | an eighth of the scan traffic; exact scores re-rank the best  |
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError

Settings = dict[str, int]
"""FAISS search parameters by name; stored inside the index file."""


_REFINE = (4, 8, 16, 32, 64)
_CODES_PER_RERANK = 30
"""Codes scanned in the time of one exact score; about 5 ns and 170 ns were measured with a million items."""


class Design(NamedTuple):
    """A FAISS factory string, and search settings to try: cheapest first, the last is the most worth trying."""

    factory: str
    ladder: list[Settings]


class Family(Protocol):
    """One kind of index."""

    def design(self, num_items: int, width: int, /) -> Design:
        """Return the index for N items of the given width."""
        ...


@dataclass(frozen=True)
class Flat:
    """Exact scan."""

    def design(self, _num_items: int, _width: int, /) -> Design:
        """Return the index; there is nothing to tune."""
        return Design("Flat", [{}])


@dataclass(frozen=True)
class Hnsw:
    """Navigable graph; quick at high recall, large and slow to build. Meant for unit vectors.

    Args:
        links: neighbours per item and layer, 4..64.

    Source: Malkov and Yashunin, arXiv 1603.09320.
    """

    links: int = 32

    def design(self, _num_items: int, _width: int, /) -> Design:
        """Return the index; the ladder is the breadth of the search."""
        return Design(f"HNSW{self.links},Flat", [{"efSearch": breadth} for breadth in _growing(128, 2_048)])


@dataclass(frozen=True)
class Ivf:
    """Inverted lists over exact vectors.

    Args:
        num_lists: clusters; None = four times the square root of the catalogue size, as a power of two.
    """

    num_lists: int | None = None

    def design(self, num_items: int, _width: int, /) -> Design:
        """Return the index; the ladder is the number of visited lists, up to all of them."""
        lists = min(self.num_lists or _num_lists(num_items), num_items)
        return Design(f"IVF{lists},Flat", [{"nprobe": probes} for probes in _growing(1, lists)])


@dataclass(frozen=True)
class IvfPq:
    """Inverted lists over 4-bit product codes scanned in registers; the best of them are re-ranked by exact scores.

    Codes alone cap the recall, so tuning chooses two numbers: lists visited, and candidates re-ranked per wanted item.

    Args:
        num_lists: clusters; None = four times the square root of the catalogue size, as a power of two.

    Source: Andre, Kermarrec, Le Scouarnec, arXiv 1812.09162 (fast scan).
    """

    num_lists: int | None = None

    def design(self, num_items: int, width: int, /) -> Design:
        """Return the index with one code per two dimensions; the ladder is ordered by estimated work."""
        lists = min(self.num_lists or _num_lists(num_items), num_items)
        grid = [(probes, refine) for probes in _growing(4, lists) for refine in _REFINE]
        grid.sort(key=lambda pair: pair[0] * num_items / lists + _CODES_PER_RERANK * 100 * pair[1])
        return Design(
            f"IVF{lists},PQ{max(1, width // 2)}x4fs,RFlat",
            [{"nprobe": probes, "k_factor_rf": refine} for probes, refine in grid],
        )


@dataclass(frozen=True)
class IndexPlan:
    """Which index to build and how good it must be.

    Args:
        recall_target: least share of the exact top that must be found, 0..1.
        recall_at: length of that top.
        family: the kind of index; None = by catalogue size.
        exact_up_to: largest catalogue that is scanned exactly, when chosen by size.
        plain_up_to: largest catalogue kept as exact vectors in inverted lists, when chosen by size.
    """

    recall_target: float = 0.95
    recall_at: int = 100
    family: Family | None = None
    exact_up_to: int = 50_000
    plain_up_to: int = 100_000

    def __post_init__(self) -> None:
        """Refuse targets out of range.

        Raises:
            ConfigError: the message names the setting.
        """
        if not 0 < self.recall_target <= 1:
            raise ConfigError(f"index.recall_target is {self.recall_target}; expected above 0 and at most 1")
        if self.recall_at < 1:
            raise ConfigError(f"index.recall_at is {self.recall_at}; expected at least 1")

    def choose(self, num_items: int) -> Family:
        """Return the family for a catalogue of this size."""
        if self.family is not None:
            return self.family
        if num_items <= self.exact_up_to:
            return Flat()
        return Ivf() if num_items <= self.plain_up_to else IvfPq()


def build(factory: str, item_vectors: NDArray[np.float32]) -> Any:
    """Build an index over `[N + 1, D]` float32 item vectors (row 0 left out); FAISS seeds its clustering itself."""
    num_items, width = len(item_vectors) - 1, item_vectors.shape[1]
    inner = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    vectors = np.ascontiguousarray(item_vectors[1:])
    inverted = faiss.try_extract_index_ivf(inner)
    if inverted is not None:
        # 64 examples per cluster instead of 256: a quarter of the time, same recall within noise.
        inverted.cp.max_points_per_centroid = 64
        inverted.cp.min_points_per_centroid = 1  # tiny catalogues are allowed, a warning would help nobody
    inner.train(vectors)
    index = faiss.IndexIDMap(inner)
    index.add_with_ids(vectors, np.arange(1, num_items + 1, dtype=np.int64))
    return index


def apply(index: Any, settings: Settings) -> None:
    """Set search parameters; they are saved with the index."""
    for name, value in settings.items():
        faiss.ParameterSpace().set_index_parameter(index, name, value)


def write_index(index: Any, path: str) -> None:
    """Write an index file."""
    faiss.write_index(index, path)


def _num_lists(num_items: int) -> int:
    return int(2 ** round(np.log2(max(1.0, 4 * np.sqrt(num_items)))))


def _growing(first: int, last: int) -> list[int]:
    """Return first, then 1.5 and 2 times every power of two above it, up to last."""
    first = min(first, last)
    steps = {first, last} | {(2 + half) << power >> 1 for power in range(last.bit_length()) for half in (0, 1)}
    return sorted(step for step in steps if first <= step <= last)
