"""Rows by first appearance, over batches and types."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import SourceError
from retrank.data.vocab_builder import VocabBuilder


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=8), max_size=5))
def test_rows_are_numbered_by_first_appearance(batches: list[list[str]]) -> None:
    builder = VocabBuilder("item")
    rows: dict[str, int] = {}
    for batch in batches:
        expected = [rows.setdefault(raw, len(rows) + 1) for raw in batch]
        assert builder.encode(pa.array(batch, pa.string())).tolist() == expected
    assert builder.ids() == list(rows)
    assert len(builder) == len(rows)


def test_integers_and_text_mix() -> None:
    builder = VocabBuilder("user")
    assert builder.encode(pa.array([5, -3], pa.int32())).tolist() == [1, 2]
    assert builder.encode(pa.array(["-3", "5", "05"])).tolist() == [2, 1, 3]
    assert builder.encode(pa.array([2**64 - 1, 5], pa.uint64())).tolist() == [4, 1]
    assert builder.ids() == ["5", "-3", "05", "18446744073709551615"]


def test_a_null_has_row_0() -> None:
    assert VocabBuilder("action").encode(pa.array(["a", None, "b"])).tolist() == [1, 0, 2]


def test_text_that_is_not_utf8_is_refused() -> None:
    raw = pa.array([b"\xff"], pa.binary()).view(pa.string())
    with pytest.raises(SourceError, match="a user id is not valid UTF-8"):
        VocabBuilder("user").encode(raw)
