"""Many texts as two arrays, so that a million of them are mapped instead of parsed into a million objects."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import FormatError


class Texts:
    """Texts number 0..N-1: one block of UTF-8 and where each begins. Never changes."""

    def __init__(self, letters: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        """Look at two arrays, which may be mapped.

        Args:
            letters: UTF-8 of all texts, one after the other.
            offsets: `[N + 1]`; text i is `letters[offsets[i]:offsets[i + 1]]`.

        Raises:
            FormatError: the offsets do not cover the letters.
        """
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(letters):
            bounds = "nothing" if len(offsets) == 0 else f"{offsets[0]}..{offsets[-1]}"
            raise FormatError(f"offsets of texts span {bounds}, expected 0..{len(letters)}; export the bundle again")
        self.letters, self.offsets = letters, offsets
        self._letters, self._offsets = letters.data, offsets.data  # an element of these costs a third as much

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Return texts as arrays."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        """Return the number of texts N."""
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> str:
        """Return text number 0..N-1."""
        return str(self._letters[self._offsets[number] : self._offsets[number + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        """Yield all texts in order."""
        return (self[number] for number in range(len(self)))

    def raw(self, number: int) -> bytes:
        """Return the UTF-8 of text number 0..N-1."""
        return bytes(self._letters[self._offsets[number] : self._offsets[number + 1]])

    def find(self, text: str, first: int, stop: int) -> int | None:
        """Return the number of a text among those numbered first..stop-1, whose UTF-8 must increase; None = not there.

        Args:
            text: looked for; one that has no UTF-8 is not there.
            first, stop: where.
        """
        wanted = text.encode(errors="surrogatepass")
        low, high = first, stop
        while low < high:
            middle = (low + high) // 2
            if self.raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < stop and self.raw(low) == wanted else None
