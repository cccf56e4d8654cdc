"""The plain sequence files of the papers."""

import gzip
import os
from pathlib import Path

import pytest

from retrank.contract.errors import BadRowsError, ConfigError, SourceError
from retrank.data.ingest import ingest
from retrank.data.readers.sequences import SequenceFile
from retrank.data.splits import LeaveLastOut

DATA = os.environ.get("RETRANK_DATA")


def make(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_pairs_keep_the_order_of_lines(tmp_path: Path) -> None:
    store = ingest(SequenceFile(make(tmp_path / "s.txt", "b 9\na 9\n\nb\t3\nb   9 \n")), tmp_path / "store")
    assert (store.users.ids, store.items.ids) == (["b", "a"], ["9", "3"])
    assert [rows.tolist() for rows in store.sequences] == [[1, 2, 1], [1]]
    assert not store.facts.has_times


def test_one_user_per_line_gives_the_same_store(tmp_path: Path) -> None:
    pairs = ingest(SequenceFile(make(tmp_path / "p.txt", "u1 a\nu1 b\nu2 a\n")), tmp_path / "pairs")
    users = SequenceFile(make(tmp_path / "u.txt.gz", gzip.compress(b"u1 a b\nu2 a\n")), shape="user_per_line")
    assert ingest(users, tmp_path / "users").facts.data_hash == pairs.facts.data_hash


def test_lines_of_the_wrong_width_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "s.txt", "a 1\na 1 2\nb\n")
    with pytest.raises(BadRowsError, match=r"2 of 3 rows .*s\.txt:2: 'a 1 2"):
        ingest(SequenceFile(path), tmp_path / "store")
    with pytest.raises(BadRowsError, match=r"a user without items: 1 rows, first .*s\.txt:3: 'b"):
        ingest(SequenceFile(path, shape="user_per_line"), tmp_path / "store")


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        ingest(SequenceFile(str(tmp_path / "none.txt")), tmp_path / "store")
    with pytest.raises(SourceError, match=r"s\.txt:2: byte 1 of the line is not utf-8"):
        ingest(SequenceFile(make(tmp_path / "s.txt", b"a 1\n\xff 2\n")), tmp_path / "store")
    packed = gzip.compress(b"".join(b"u%d %d\n" % (n * 7919 % 1009, n) for n in range(9_000)))
    with pytest.raises(SourceError, match=r"s\.txt\.gz: cannot be read after line .* truncated"):
        ingest(SequenceFile(make(tmp_path / "s.txt.gz", packed[: len(packed) // 2])), tmp_path / "store")
    with pytest.raises(ConfigError, match=r"data\.shape is 'rows'"):
        SequenceFile("s.txt", shape="rows")  # type: ignore[arg-type]  # what a configuration file may say


@pytest.mark.skipif(not DATA, reason="RETRANK_DATA does not name the folder with ml-1m/ml-1m.txt")
def test_the_file_of_the_sasrec_papers_has_its_published_size(tmp_path: Path) -> None:
    store = ingest(SequenceFile(f"{DATA}/ml-1m/ml-1m.txt", "ml1m"), tmp_path / "store")
    assert (store.num_users, store.num_items, store.facts.num_events) == (6_040, 3_416, 999_611)
    split = LeaveLastOut()(store.sequences)
    assert len(split.test) == len(split.validation) == 6_040
    assert split.counts["repeat_targets_test"] == 0
