"""From attributes of an item to the arrays an item tower reads: the one implementation, for training and for new items.

What has to be learned from a catalogue - known categories, edges of number bins - is kept in an `ItemEncoding`, so that
an item that arrives later is described exactly as those of training were.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from retrank.contract.errors import DataError, SourceError

CODES, TOKENS, VECTORS = "codes", "tokens", "item_vectors"
"""Inputs and output of an exported item encoder."""
_WORD = re.compile(r"\w+")


class ContentArrays(NamedTuple):
    """Content of R items (`[N + 1, ...]` with an empty row 0 for a catalogue).

    Attributes:
        codes: `[R, F]` int32, one per category and number; 1..num_codes, 0 = no item.
        tokens: `[R, T]` int32 words and pieces of words; 1..num_tokens, 0 = none.
        num_codes: how many codes there are.
        num_tokens: how many tokens there are.
        touched: `[R]` bool, items with training events, whose ids say something; None = all.
    """

    codes: NDArray[np.int32]
    tokens: NDArray[np.int32]
    num_codes: int
    num_tokens: int
    touched: NDArray[np.bool_] | None = None


class ItemEncoding(BaseModel):
    """How attributes become codes and tokens; `data.item_content` learns one from a catalogue.

    A value that is missing, not finite or unknown has a code of its own, and so has an item without any text: missing
    is information, not zero.

    Attributes:
        categories: attribute -> its known values.
        numbers: attribute -> ascending inner edges of its bins; a value on an edge belongs above it.
        texts: attributes that are read as text, all into one bag.
        num_buckets: tokens share this many rows by CRC-32 of their UTF-8.
        piece_length: characters of the overlapping pieces a word is cut into, its ends marked; 0 = whole words only.
        max_tokens: distinct tokens kept per item; words come before pieces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: Literal["item content/1"] = "item content/1"
    categories: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, tuple[float, ...]]
    texts: tuple[str, ...]
    num_buckets: int = Field(ge=1)
    piece_length: int = Field(ge=0)
    max_tokens: int = Field(ge=1)

    @property
    def sizes(self) -> list[int]:
        """Return the number of codes of each category, then of each number; the first of each means missing."""
        known = [len(values) for values in self.categories.values()]
        return [1 + size for size in known] + [2 + len(edges) for edges in self.numbers.values()]

    def encode(self, items: pa.Table) -> ContentArrays:
        """Describe the R items of a table with the attributes as columns; further columns are ignored.

        Raises:
            DataError: an attribute is missing from the table, or a number is not one.
        """
        columns = [_category_codes(attribute_column(items, name), known) for name, known in self.categories.items()]
        columns += [_bin_codes(number_column(items, name), edges) for name, edges in self.numbers.items()]
        sizes = self.sizes
        first = np.cumsum([1, *sizes])[:-1]  # code 0 is kept for "no item"
        codes = np.zeros((items.num_rows, len(columns)), dtype=np.int32)
        for place, column in enumerate(columns):
            codes[:, place] = column + first[place]
        return ContentArrays(codes, self._tokens(items), sum(sizes), self.num_buckets + 1 if self.texts else 0)

    def encode_catalogue(self, items: pa.Table) -> ContentArrays:
        """Describe the N items of a store, `[N + 1, ...]`; row 0 is empty."""
        arrays = self.encode(items)
        return arrays._replace(
            codes=np.pad(arrays.codes, ((1, 0), (0, 0))), tokens=np.pad(arrays.tokens, ((1, 0), (0, 0)))
        )

    def encode_attributes(self, items: Sequence[Mapping[str, JsonValue]]) -> ContentArrays:
        """Describe R items by their attributes as JSON; what is missing or of no use is unknown, never refused.

        Numbers may be written as text; of a list its parts are joined as one text.
        """
        texts = {
            name: pa.array([_as_text(item.get(name)) for item in items], pa.string())
            for name in (*self.categories, *self.texts)
        }
        numbers = {
            name: pa.array([_as_number(item.get(name)) for item in items], pa.float64()) for name in self.numbers
        }
        return self.encode(pa.table({**texts, **numbers}))

    def says_something(self, content: ContentArrays) -> NDArray[np.bool_]:
        """Tell for each of R items `[R]` whether any attribute has a known value, or any text at all."""
        nothing = np.cumsum([1, *self.sizes])[:-1]
        known: NDArray[np.bool_] = (content.codes != nothing).any(axis=1)
        if self.texts:
            known |= ((content.tokens > 0) & (content.tokens <= self.num_buckets)).any(axis=1)
        return known

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "ItemEncoding":
        """Read what `save` wrote.

        Raises:
            SourceError: missing, damaged, or an encoding that this version does not implement.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise SourceError(f"{path}: not a readable encoding of items ({reason}); train the run again") from error

    def _tokens(self, items: pa.Table) -> NDArray[np.int32]:
        if not self.texts:
            return np.zeros((items.num_rows, 0), dtype=np.int32)
        texts = [attribute_column(items, name).cast(pa.string()).fill_null("").to_pylist() for name in self.texts]
        bags = [list(self._bag(" ".join(parts))) for parts in zip(*texts, strict=True)]
        tokens = np.zeros((len(bags), max(map(len, bags), default=1)), dtype=np.int32)
        for row, bag in zip(tokens, bags, strict=True):
            row[: len(bag)] = bag
        return tokens

    def _bag(self, text: str) -> list[int]:
        """Return the distinct tokens of a text, words first; one that stands for "no text" if it has none."""
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        pieces = (piece for word in words for piece in _pieces(f"<{word}>", self.piece_length))
        distinct = dict.fromkeys((*words, *pieces))
        rows = dict.fromkeys(zlib.crc32(token.encode("utf-8", "replace")) % self.num_buckets + 1 for token in distinct)
        return list(rows)[: self.max_tokens] or [self.num_buckets + 1]


def graph_inputs(content: ContentArrays) -> dict[str, NDArray[np.int64]]:
    """Return what an exported item encoder reads, `[R, F]` and `[R, T]`, with at least one column each."""

    def wide(rows: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.pad(rows, ((0, 0), (0, max(0, 1 - rows.shape[1])))).astype(np.int64)

    return {CODES: wide(content.codes), TOKENS: wide(content.tokens)}


def number_column(items: pa.Table, name: str) -> NDArray[np.float64]:
    """Return an attribute as `[R]` float64; NaN = missing or not finite.

    Raises:
        DataError: there is no such attribute, or a value is not a number.
    """
    column = attribute_column(items, name)
    try:
        numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DataError(f"item attribute {name!r} is not a number ({error}); name it among categories") from error
    return np.where(np.isfinite(numbers), numbers, np.nan)


def attribute_column(items: pa.Table, name: str) -> pa.Array:
    """Return an attribute of R items.

    Raises:
        DataError: there is no such attribute.
    """
    if name not in items.column_names:
        raise DataError(f"the items have no attribute {name!r}, found {items.column_names}; change item_content")
    return items.column(name).combine_chunks()


def _as_text(value: JsonValue) -> str | None:
    """Write a value as a column of its kind is written when it is read as text."""
    if isinstance(value, list):
        return " ".join(filter(None, map(_as_text, value)))
    if isinstance(value, bool | float):
        text: str = pa.scalar(value).cast(pa.string()).as_py()
        return text
    return str(value) if isinstance(value, str | int) else None


def _as_number(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _category_codes(column: pa.Array, known: tuple[str, ...]) -> NDArray[np.int32]:
    """0 = missing or unknown, else 1 + place among the known values."""
    places = pc.index_in(column.cast(pa.string()), value_set=pa.array(known, pa.string()), skip_nulls=True)
    codes: NDArray[np.int32] = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + np.int32(1)
    return codes


def _bin_codes(numbers: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.int32]:
    """0 = missing, else 1 + number of edges at or below the value."""
    bins = 1 + np.searchsorted(edges, numbers, side="right")
    return np.where(np.isnan(numbers), 0, bins).astype(np.int32)


def _pieces(word: str, length: int) -> Iterator[str]:
    if length and len(word) > length:
        yield from (word[start : start + length] for start in range(len(word) - length + 1))
