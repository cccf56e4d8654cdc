"""Raw string ids and the integer rows used inside: id number i (0-based) has row i + 1; row 0 is padding / unknown.

Ids are `Texts` beside a hash table of their rows, three arrays that a bundle holds as files. They are mapped, not read:
opening a million ids costs microseconds, and the replicas of a host share them. A look-up costs about a microsecond.

The table: an id's hash is its BLAKE2b of 8 bytes, little-endian. With N ids there are 2^b home places, 2^b the lowest
power of two that is at least 2 N. Its home is the first b bits of the hash; ids stand in the order of their hashes,
ties by row, each at its home or the first place after it that is free. An entry is the last 32 bits of the hash, then
32 bits of the row; 0 = empty. The last entry is always empty, so that a search which starts anywhere ends.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import FormatError
from retrank.contract.mapped import mapped
from retrank.contract.texts import Texts

_HASH_BITS = 64
_TAG_BITS = 32
_TAG = (1 << _TAG_BITS) - 1


class VocabFiles(NamedTuple):
    """Names of the files of a vocab in a bundle."""

    letters: str
    offsets: str
    table: str


class Vocab:
    """Two-way map between distinct raw ids and rows 1..N. Never changes."""

    def __init__(self, ids: Sequence[str] | Texts, table: NDArray[np.uint64] | None = None) -> None:
        """Index the ids.

        Args:
            ids: in row order; of equal ones the first is found.
            table: what `id_table` returns for them; made when None.
        """
        texts = ids if isinstance(ids, Texts) else Texts.of(ids)
        self.texts, self.table = texts, id_table(texts) if table is None else table
        self._table, self._count = self.table.data, len(texts)
        self._shift = _HASH_BITS - _home_bits(len(texts))

    def __len__(self) -> int:
        """Return the number of ids N, padding not counted."""
        return self._count

    @property
    def ids(self) -> list[str]:
        """All ids in row order, as a list made for the occasion."""
        return list(self.texts)

    def row(self, raw_id: str) -> int:
        """Return the row of `raw_id`, or 0 when it is unknown."""
        raw = raw_id.encode(errors="surrogatepass")  # what has no UTF-8 equals no id
        hashed = int.from_bytes(_digest(raw), "little")
        place, tag = hashed >> self._shift, (hashed & _TAG) << _TAG_BITS
        while entry := self._table[place]:
            row = entry ^ tag  # without its tag, if it has this one
            if row <= _TAG and self.texts.raw(row - 1) == raw:
                return row
            place += 1
        return 0

    def rows(self, raw_ids: Iterable[str]) -> NDArray[np.int32]:
        """Return the rows of known ids in order; unknown ids are dropped."""
        return np.array([row for raw in raw_ids if (row := self.row(raw))], dtype=np.int32)

    def id(self, row: int) -> str:
        """Return the raw id of row 1..N."""
        if not 1 <= row <= self._count:
            raise IndexError(f"row {row} is outside 1..{self._count}")
        return self.texts[row - 1]

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """Return the raw ids of rows 1..N, in that order; they are not checked, see `id`."""
        texts = self.texts
        return [texts[row - 1] for row in rows]

    def write(self, directory: Path, files: VocabFiles) -> None:
        """Write the three arrays; equal ids give equal bytes."""
        np.save(directory / files.letters, self.texts.letters)
        np.save(directory / files.offsets, self.texts.offsets)
        np.save(directory / files.table, self.table)

    @classmethod
    def open(cls, directory: Path, files: VocabFiles) -> "Vocab":
        """Map what `write` wrote; the hashes of the files were checked.

        Raises:
            FormatError: an array is of another kind, or they do not belong together.
        """
        letters = mapped(directory / files.letters, np.uint8)
        texts = Texts(letters, mapped(directory / files.offsets, np.int64))
        table = mapped(directory / files.table, np.uint64)
        if len(table) <= 1 << _home_bits(len(texts)) or table[-1] != 0:
            raise FormatError(
                f"{directory / files.table}: {len(table)} places for {len(texts)} ids, or no end; export it again"
            )
        return cls(texts, table)


def id_table(texts: Texts) -> NDArray[np.uint64]:
    """Return the hash table of ids as the module describes it."""
    digests = b"".join(_digest(texts.raw(number)) for number in range(len(texts)))
    hashes = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    hashes, count = hashes[order], np.arange(len(order))
    bits = _home_bits(len(texts))
    home = (hashes >> np.uint64(_HASH_BITS - bits)).astype(np.int64)
    place = count + np.maximum.accumulate(home - count)  # at home, or behind the one before
    table = np.zeros(max(1 << bits, int(place.max(initial=0)) + 1) + 1, dtype=np.uint64)
    table[place] = (hashes << np.uint64(_TAG_BITS)) | (order + 1).astype(np.uint64)
    return table


def _home_bits(num_ids: int) -> int:
    return max(1, (2 * num_ids - 1).bit_length())


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=_HASH_BITS // 8).digest()
