"""From a table of items to the arrays of their attributes."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrank.contract.attributes import FALSE, NO_INTEGER, TRUE, AttributeArrays
from retrank.contract.errors import BundleError
from retrank.contract.features import ITEM_COLUMN
from retrank.contract.manifest import ItemColumn
from retrank.contract.texts import Texts
from retrank.data.arrow_texts import texts_of


class _Made(NamedTuple):
    """The arrays while they grow, a list of `[N + 1]` rows each, and the words of every text attribute."""

    codes: list[NDArray[np.int32]]
    integers: list[NDArray[np.int64]]
    numbers: list[NDArray[np.float64]]
    words: list[Texts]


def attribute_arrays(items: pa.Table) -> AttributeArrays:
    """Return the attributes of a table whose row i describes item row i + 1; types JSON lacks become text.

    Raises:
        BundleError: an integer does not fit 64 bits.
    """
    made, columns = _Made([], [], [], []), []
    for name in items.column_names:
        if name != ITEM_COLUMN:
            columns.append(_add(name, items.column(name), made))
    size = items.num_rows + 1
    return AttributeArrays(
        columns,
        np.array(made.codes, dtype=np.int32).reshape(-1, size),
        np.array(made.integers, dtype=np.int64).reshape(-1, size),
        np.array(made.numbers, dtype=np.float64).reshape(-1, size),
        _joined(made.words),
    )


def _joined(parts: list[Texts]) -> Texts:
    letters = np.concatenate([np.empty(0, dtype=np.uint8), *(part.letters for part in parts)])
    lengths = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in parts)])
    return Texts(letters, np.cumsum(lengths))


def _add(name: str, column: pa.ChunkedArray, made: _Made) -> ItemColumn:
    kind = column.type
    if pa.types.is_boolean(kind):
        truths = pc.if_else(column, pa.scalar(TRUE, pa.int32()), pa.scalar(FALSE, pa.int32())).fill_null(0)
        made.codes.append(_padded(truths.to_numpy(), np.int32(0)))
        return ItemColumn(name=name, kind="truth", place=len(made.codes) - 1)
    if pa.types.is_integer(kind):
        made.integers.append(_integers(name, column))
        return ItemColumn(name=name, kind="integer", place=len(made.integers) - 1)
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        made.numbers.append(_padded(np.where(np.isfinite(numbers), numbers, np.nan), np.float64(np.nan)))
        return ItemColumn(name=name, kind="number", place=len(made.numbers) - 1)
    first = sum(len(words) for words in made.words)
    codes, words = _words(column.cast(pa.large_string()))
    made.codes.append(_padded(np.where(codes < 0, 0, codes + 1 + first).astype(np.int32), np.int32(0)))
    made.words.append(words)
    return ItemColumn(name=name, kind="text", place=len(made.codes) - 1, first_word=first, stop_word=first + len(words))


def _integers(name: str, column: pa.ChunkedArray) -> NDArray[np.int64]:
    try:
        signed = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise BundleError(f"item attribute {name!r}: {error}; integers need 64 bits, make it text") from error
    if pc.min(signed).as_py() == NO_INTEGER:
        raise BundleError(f"item attribute {name!r} has the value {NO_INTEGER}, which means no value; make it text")
    return _padded(signed.fill_null(NO_INTEGER).to_numpy(), np.int64(NO_INTEGER))


def _words(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], Texts]:
    """Return for each item the number of its word, -1 = none, and the distinct words in increasing order."""
    encoded = pa.chunked_array(column.chunks, column.type).combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(order)), -1
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return place[codes], texts_of(encoded.dictionary.take(pa.array(order)))


def _padded(values: NDArray[np.generic], nothing: np.generic) -> NDArray:  # type: ignore[type-arg]  # keeps the dtype of the values
    return np.concatenate([np.array([nothing]), values])
