"""Raw ids and rows."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import SourceError
from retrank.contract.vocab import Vocab

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), unique=True, max_size=8)


def test_rows_start_at_one_and_unknown_ids_are_row_zero() -> None:
    vocab = Vocab(["b", "a"])
    assert len(vocab) == 2
    assert [vocab.row(raw) for raw in ("b", "a", "c", "")] == [1, 2, 0, 0]
    assert vocab.rows(["a", "nobody", "b", "a"]).tolist() == [2, 1, 2]
    assert vocab.rows([]).tolist() == []


@given(ids)
def test_ids_of_any_script_survive_rows_and_a_file(raw_ids: list[str]) -> None:
    vocab = Vocab(raw_ids)
    assert [vocab.id(vocab.row(raw)) for raw in raw_ids] == raw_ids
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.parquet"
        pq.write_table(pa.table({"item_id": pa.array(raw_ids, pa.string())}), path)
        assert Vocab.read(path, "item_id").ids == raw_ids


@pytest.mark.parametrize("row", [0, -1, 3])
def test_a_row_outside_the_vocab_has_no_id(row: int) -> None:
    with pytest.raises(IndexError, match=r"outside 1\.\.2"):
        Vocab(["a", "b"]).id(row)


def test_a_missing_column_is_named_with_those_that_exist(tmp_path: Path) -> None:
    pq.write_table(pa.table({"title": ["x"]}), tmp_path / "items.parquet")
    with pytest.raises(SourceError, match=r"items\.parquet: no column 'item_id', found \['title'\]"):
        Vocab.read(tmp_path / "items.parquet", "item_id")


@given(ids, st.text(max_size=8))
def test_look_ups_agree_with_a_dict(raw_ids: list[str], other: str) -> None:
    vocab, oracle = Vocab(raw_ids), {raw: row for row, raw in enumerate(raw_ids, start=1)}
    asked = [*raw_ids, other, *reversed(raw_ids)]
    assert [vocab.row(raw) for raw in asked] == [oracle.get(raw, 0) for raw in asked]
    assert vocab.rows(asked).tolist() == [oracle[raw] for raw in asked if raw in oracle]


def test_ids_with_the_same_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrank.contract.vocab.hash", lambda _: 7, raising=False)
    vocab = Vocab(["b", "a", "c"])
    assert [vocab.row(raw) for raw in "abcd"] == [2, 1, 3, 0]


def test_a_slice_of_a_column_has_rows_of_its_own() -> None:
    vocab = Vocab(pa.array(["x", "y", "z"], pa.large_string()).slice(1))
    assert [vocab.row(raw) for raw in "xyz"] == [0, 1, 2]
    assert [vocab.id(1), vocab.id(2)] == ["y", "z"]
