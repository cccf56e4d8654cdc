"""Texts as two arrays, against a list."""

from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import FormatError
from retrank.contract.texts import Texts

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=10)


@given(TEXTS)
def test_texts_are_a_list(texts: list[str]) -> None:
    found = Texts.of(texts)
    assert (len(found), list(found)) == (len(texts), texts)
    assert [found.raw(number) for number in range(len(texts))] == [text.encode() for text in texts]


@given(TEXTS, st.text(max_size=6), st.integers(0, 10), st.integers(0, 10))
def test_a_text_is_found_among_increasing_ones(texts: list[str], other: str, first: int, stop: int) -> None:
    ordered = sorted({text.encode() for text in texts})
    found = Texts.of(raw.decode() for raw in ordered)
    first, stop = min(first, len(ordered)), min(stop, len(ordered))
    for wanted in [*texts, other]:
        raw = wanted.encode(errors="surrogatepass")
        place = bisect_left(ordered, raw)
        there = first <= place < stop and ordered[place] == raw
        assert found.find(wanted, first, stop) == (place if there else None)


@pytest.mark.parametrize("offsets", [[], [1, 2], [0, 1], [0, 3]])
def test_offsets_that_do_not_cover_the_letters_are_refused(offsets: list[int]) -> None:
    with pytest.raises(FormatError, match=r"expected 0\.\.2"):
        Texts(np.array([65, 66], dtype=np.uint8), np.array(offsets, dtype=np.int64))
