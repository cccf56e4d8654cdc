"""Display attributes of items as the arrays a bundle holds: one row per attribute, one place per item row.

    text      `attribute_codes.npy` [T, N + 1] int32: 1 + number of the word in the words, 0 = no value; the words of
              one attribute stand together and increase by their UTF-8
    truth     `attribute_codes.npy` too: 1 = false, 2 = true, 0 = no value
    integer   `attribute_integers.npy` [I, N + 1] int64, NO_INTEGER = no value
    number    `attribute_numbers.npy` [F, N + 1] float64, NaN = no value
    words     `attribute_words.npy`, `attribute_word_offsets.npy`, see `Texts`

Row 0, the padding, has no values. Which attribute lies where stands in the manifest, `item_columns`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract import bundle as layout
from retrank.contract.errors import FormatError
from retrank.contract.manifest import ItemColumn
from retrank.contract.mapped import mapped
from retrank.contract.texts import Texts

NO_INTEGER = -(1 << 63)
FALSE, TRUE = 1, 2


class AttributeArrays(NamedTuple):
    """What the module describes; `columns` says which attribute lies where."""

    columns: Sequence[ItemColumn]
    codes: NDArray[np.int32]
    integers: NDArray[np.int64]
    numbers: NDArray[np.float64]
    words: Texts

    def write(self, directory: Path) -> None:
        """Write the arrays; the columns go into the manifest."""
        np.save(directory / layout.ATTRIBUTE_CODES, self.codes)
        np.save(directory / layout.ATTRIBUTE_INTEGERS, self.integers)
        np.save(directory / layout.ATTRIBUTE_NUMBERS, self.numbers)
        np.save(directory / layout.ATTRIBUTE_WORDS, self.words.letters)
        np.save(directory / layout.ATTRIBUTE_WORD_OFFSETS, self.words.offsets)

    @classmethod
    def open(cls, directory: Path, columns: Sequence[ItemColumn], num_items: int) -> "AttributeArrays":
        """Map what `write` wrote; the hashes of the files were checked.

        Raises:
            FormatError: an array is of another kind or size than the manifest says.
        """
        size = num_items + 1
        found = cls(
            columns,
            mapped(directory / layout.ATTRIBUTE_CODES, np.int32, (None, size)),
            mapped(directory / layout.ATTRIBUTE_INTEGERS, np.int64, (None, size)),
            mapped(directory / layout.ATTRIBUTE_NUMBERS, np.float64, (None, size)),
            Texts(
                mapped(directory / layout.ATTRIBUTE_WORDS, np.uint8),
                mapped(directory / layout.ATTRIBUTE_WORD_OFFSETS, np.int64),
            ),
        )
        rows = {"integer": len(found.integers), "number": len(found.numbers)}
        for column in columns:
            if column.place >= rows.get(column.kind, len(found.codes)) or column.stop_word > len(found.words):
                raise FormatError(f"{directory}: attribute {column.name!r} lies outside the arrays; export it again")
        return found
