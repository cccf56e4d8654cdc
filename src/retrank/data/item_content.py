"""Which attributes of items a model reads, and what has to be learned from the catalogue before it can."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrank.contract.errors import ConfigError
from retrank.contract.item_content import ItemEncoding, attribute_column, number_column


@dataclass(frozen=True)
class ItemContent:
    """Choice of attributes, as configured.

    Attributes:
        categories: attributes with one of a set of values each, such as a brand.
        numbers: attributes that are numbers, such as a price; cut at quantiles of the catalogue.
        texts: attributes that are text, such as a title; a cell with several values, such as genres, is text too.
        num_bins: bins per number at most, >= 1; equal values never part.
        num_buckets: rows that tokens share by their hash, >= 1.
        piece_length: characters per piece of a word, >= 0; 0 = whole words only.
        max_tokens: distinct tokens kept per item, >= 1.

    Raises:
        ConfigError: no attribute at all, one named twice, or a size out of range.
    """

    categories: Sequence[str] = ()
    numbers: Sequence[str] = ()
    texts: Sequence[str] = ()
    num_bins: int = 16
    num_buckets: int = 8_192
    piece_length: int = 4
    max_tokens: int = 48

    def __post_init__(self) -> None:
        """Refuse a choice that describes nothing."""
        names = [*self.categories, *self.numbers, *self.texts]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"item_content names {names}; expected at least one attribute among categories, numbers and texts, "
                "and none twice"
            )
        sizes = {field.name: getattr(self, field.name) for field in fields(self) if field.type is int}
        wrong = [f"{name} is {size}" for name, size in sizes.items() if size < (name != "piece_length")]
        if wrong:
            raise ConfigError(f"item_content: {', '.join(wrong)}; sizes must be at least 1, piece_length at least 0")

    def fit(self, items: pa.Table) -> ItemEncoding:
        """Learn known values and bin edges from the N items of a store.

        Raises:
            DataError: the store has no such attribute, or a number is not one.
        """
        for name in self.texts:
            attribute_column(items, name)  # a wrong name is better found now than after hours
        return ItemEncoding(
            categories={name: _known(items, name) for name in self.categories},
            numbers={name: _edges(items, name, self.num_bins) for name in self.numbers},
            texts=tuple(self.texts),
            num_buckets=self.num_buckets,
            piece_length=self.piece_length,
            max_tokens=self.max_tokens,
        )


def _known(items: pa.Table, name: str) -> tuple[str, ...]:
    """Return the distinct values, sorted, so that the order of items does not matter."""
    column = attribute_column(items, name).cast(pa.string())
    return tuple(sorted(pc.unique(column).drop_null().to_pylist()))


def _edges(items: pa.Table, name: str, num_bins: int) -> tuple[float, ...]:
    """Return quantiles that part the known values; none when all are equal."""
    numbers = number_column(items, name)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return ()
    edges = np.unique(np.quantile(known, np.arange(1, num_bins) / num_bins, method="higher"))
    return tuple(float(edge) for edge in edges if edge > known.min())
