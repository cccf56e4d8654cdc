"""Arrow columns become texts without a copy of their strings, whatever chunks and slices they consist of."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import SourceError
from retrank.data.arrow_texts import read_vocab, texts_of

chunks = st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4), max_size=4)


@given(chunks, st.integers(0, 3))
def test_texts_are_those_of_the_column(parts: list[list[str]], start: int) -> None:
    column = pa.chunked_array(parts, pa.string()).slice(start)
    assert list(texts_of(column)) == column.to_pylist()
    assert [list(texts_of(chunk)) for chunk in column.chunks] == [chunk.to_pylist() for chunk in column.chunks]


def test_ids_are_read_from_a_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["x", "y"], "title": ["a", None]}), tmp_path / "items.parquet")
    assert read_vocab(tmp_path / "items.parquet", "item_id").ids == ["x", "y"]


def test_a_missing_column_is_named_with_those_that_exist(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["x"]}), tmp_path / "items.parquet")
    with pytest.raises(SourceError, match=r"items\.parquet: no column 'item_id', found \['title'\]"):
        read_vocab(tmp_path / "items.parquet", "item_id")
