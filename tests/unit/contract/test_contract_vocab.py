"""Raw ids and rows."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import FormatError
from retrank.contract.vocab import Vocab, VocabFiles

FILES = VocabFiles("letters.npy", "offsets.npy", "table.npy")
ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), unique=True, max_size=8)


def test_rows_start_at_one_and_unknown_ids_are_row_zero() -> None:
    vocab = Vocab(["b", "a"])
    assert len(vocab) == 2
    assert [vocab.row(raw) for raw in ("b", "a", "c", "")] == [1, 2, 0, 0]
    assert vocab.rows(["a", "nobody", "b", "a"]).tolist() == [2, 1, 2]
    assert vocab.rows([]).tolist() == []


@given(ids)
def test_ids_of_any_script_survive_rows_and_files(raw_ids: list[str]) -> None:
    vocab = Vocab(raw_ids)
    assert [vocab.id(vocab.row(raw)) for raw in raw_ids] == raw_ids
    with tempfile.TemporaryDirectory() as folder:
        vocab.write(Path(folder), FILES)
        opened = Vocab.open(Path(folder), FILES)
        assert opened.ids == raw_ids
        assert [opened.row(raw) for raw in raw_ids] == list(range(1, len(raw_ids) + 1))


@pytest.mark.parametrize("row", [0, -1, 3])
def test_a_row_outside_the_vocab_has_no_id(row: int) -> None:
    with pytest.raises(IndexError, match=r"outside 1\.\.2"):
        Vocab(["a", "b"]).id(row)


@given(ids, st.text(max_size=8))
def test_look_ups_agree_with_a_dict(raw_ids: list[str], other: str) -> None:
    vocab, oracle = Vocab(raw_ids), {raw: row for row, raw in enumerate(raw_ids, start=1)}
    asked = [*raw_ids, other, *reversed(raw_ids)]
    assert [vocab.row(raw) for raw in asked] == [oracle.get(raw, 0) for raw in asked]
    assert vocab.rows(asked).tolist() == [oracle[raw] for raw in asked if raw in oracle]


@given(st.integers(0, 400), st.integers(0, 2**63 - 1))
def test_every_id_of_a_large_vocab_is_found_and_no_other(count: int, seed: int) -> None:
    raw_ids = [f"item-{seed}-{number}" for number in range(count)]
    vocab = Vocab(raw_ids)
    assert vocab.rows([*raw_ids, "item", f"item-{seed}-{count}"]).tolist() == list(range(1, count + 1))


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12))
def test_of_equal_ids_the_first_is_found(raw_ids: list[str]) -> None:
    vocab = Vocab(raw_ids)
    assert [vocab.row(raw) for raw in raw_ids] == [raw_ids.index(raw) + 1 for raw in raw_ids]


@pytest.mark.parametrize("hashed", [0, 7, 2**64 - 1])
def test_ids_with_the_same_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch, hashed: int) -> None:
    monkeypatch.setattr("retrank.contract.vocab._digest", lambda _: hashed.to_bytes(8, "little"))
    vocab = Vocab(["b", "a", "c"])
    assert [vocab.row(raw) for raw in "abcd"] == [2, 1, 3, 0]


def test_very_long_ids_and_text_without_utf8_do_no_harm() -> None:
    long = "\U0001f980" * 50_000
    vocab = Vocab([long, "x"])
    assert (vocab.row(long), vocab.id(1) == long, vocab.row(long[:-1])) == (1, True, 0)
    assert vocab.row("\ud800") == 0


def test_the_table_is_the_published_one() -> None:
    """`printf a | b2sum -l 64` says 40f89e395b66422f, of b 8472c2e34d854f75; their homes are 0 and 1 of 4."""
    assert Vocab(["a", "b"]).table.tolist() == [0x399EF84000000001, 0xE3C2728400000002, 0, 0, 0]


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Vocab(["a", "b", "c"]).write(tmp_path, FILES)
    np.save(tmp_path / FILES.table, Vocab([]).table)
    with pytest.raises(FormatError, match=r"table\.npy: 3 places for 3 ids"):
        Vocab.open(tmp_path, FILES)
    np.save(tmp_path / FILES.offsets, np.array([0, 1, 9]))
    with pytest.raises(FormatError, match=r"span 0\.\.9, expected 0\.\.3"):
        Vocab.open(tmp_path, FILES)
    np.save(tmp_path / FILES.letters, np.array([1.5]))
    with pytest.raises(FormatError, match=r"letters\.npy: float64"):
        Vocab.open(tmp_path, FILES)
