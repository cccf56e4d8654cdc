"""Parquet sources: types, 64-bit ids, damage."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrank.contract.errors import SourceError
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.parquet_files import ParquetFiles
from retrank.data.report import RowReport

COLUMNS = Columns("u", "i", "t")
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def write(path: Path, columns: dict[str, object]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_64_bit_ids_never_pass_through_a_float(tmp_path: Path) -> None:
    ids = [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53 + 1, 0]
    path = write(tmp_path / "events.parquet", {"u": ids, "i": pa.array(ids, pa.int64()), "t": list(range(6))})
    store = ingest(ParquetFiles(path, COLUMNS), tmp_path / "store")
    assert store.users.ids == store.items.ids == [str(raw) for raw in ids]


def test_unsigned_64_bit_ids_are_exact_too(tmp_path: Path) -> None:
    ids = pa.array([2**64 - 1, 5], pa.uint64())
    store = ingest(ParquetFiles(write(tmp_path / "e.parquet", {"u": ids, "i": ids}), Columns("u", "i")), tmp_path / "s")
    assert store.users.ids == ["18446744073709551615", "5"]


def test_float_ids_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", {"u": [1.0], "i": [1], "t": [1]})
    with pytest.raises(SourceError, match=r"events\.parquet: row 1: user_id holds double; a float cannot hold"):
        list(ParquetFiles(path, COLUMNS).batches(RowReport()))


def test_files_with_integer_and_text_ids_share_one_vocabulary(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    write(folder / "1.parquet", {"u": [7, 8], "i": ["a", "b"], "t": [1, 2]})
    write(folder / "2.parquet", {"u": ["8", "9"], "i": pa.array(["b", "c"]).dictionary_encode(), "t": [3, 4]})
    store = ingest(ParquetFiles(str(folder), COLUMNS), tmp_path / "store")
    assert store.users.ids == ["7", "8", "9"]
    assert [rows.tolist() for rows in store.sequences] == [[1], [2, 2], [3]]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([NOON], pa.timestamp("ns", "UTC")),
        pa.array([NOON], pa.timestamp("s", "Europe/Berlin")),
        pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ms")),
        pa.array([int(NOON.timestamp())], pa.int32()),
        pa.array([NOON.timestamp()], pa.float64()),
        pa.array([str(int(NOON.timestamp()))]),
    ],
)
def test_every_type_of_time_is_the_same_instant(tmp_path: Path, times: pa.Array) -> None:
    path = write(tmp_path / "events.parquet", {"u": ["a"], "i": ["x"], "t": times})
    (batch,) = ParquetFiles(path, COLUMNS).batches(RowReport())
    assert batch["time"].to_pylist() == [int(NOON.timestamp()) * 1_000_000]


def test_a_column_that_cannot_be_a_time_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", {"u": ["a"], "i": ["x"], "t": [True]})
    with pytest.raises(SourceError, match=r"row 1: the time column holds bool"):
        list(ParquetFiles(path, COLUMNS).batches(RowReport()))


def test_null_ids_and_times_are_bad_rows_with_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", {"u": [1, None, 3, 4], "i": [1, 2, None, 4], "t": [1, 2, 3, None]})
    report = RowReport()
    (batch,) = ParquetFiles(path, COLUMNS).batches(report)
    assert batch["user_id"].to_pylist() == [1]
    assert report.examples["missing item_id (column 'i')"] == [f"{path}: row 3: None"]
    assert report.num_bad == 3


def test_attributes_and_numbers_keep_their_meaning(tmp_path: Path) -> None:
    path = write(
        tmp_path / "events.parquet",
        {"u": [1, 1, 2], "i": [5, 6, 5], "t": [1, 2, 3], "g": ["m", None, "w"], "p": [2, 3, 4], "s": [10, None, 30]},
    )
    columns = Columns(
        "u", "i", "t", context={"gender": "g", "size": "s"}, attributes={"price": "p"}, numbers=["size", "price"]
    )
    store = ingest(ParquetFiles(path, columns), tmp_path / "store")
    assert store.facts.context == {"gender": "category", "size": "number"}
    assert str(store.context("size").tolist()) == "[10.0, nan, 30.0]"
    assert store.item_table.to_pydict() == {"item_id": ["5", "6"], "price": [2.0, 3.0]}


def test_items_may_lie_in_parquet_with_integer_ids(tmp_path: Path) -> None:
    events = write(tmp_path / "events.parquet", {"u": [1, 1], "i": [6, 5], "t": [1, 2]})
    items = write(tmp_path / "items.parquet", {"id": [5, 5, 7], "name": ["Five", "Again", "Never bought"]})
    reader = ParquetFiles(events, COLUMNS, items=ItemsFile(items, "id", {"title": "name"}))
    store = ingest(reader, tmp_path / "store")
    assert store.item_table.to_pydict() == {"item_id": ["6", "5", "7"], "title": [None, "Five", "Never bought"]}
    assert store.num_items_without_events == 1
    sold = ingest(reader, tmp_path / "store", items_without_events=False)
    assert sold.item_table.to_pydict() == {"item_id": ["6", "5"], "title": [None, "Five"]}
    assert sold.facts.data_hash != store.facts.data_hash


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, keep: float) -> None:
    path = Path(write(tmp_path / "events.parquet", {"u": [1], "i": [1], "t": [1]}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(SourceError, match=r"events\.parquet: not a readable Parquet file"):
        list(ParquetFiles(str(path), COLUMNS).batches(RowReport()))


def test_a_file_damaged_inside_is_refused_by_name(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "events.parquet", {"u": list(range(5_000)), "i": [1] * 5_000, "t": [1] * 5_000}))
    raw = bytearray(path.read_bytes())
    raw[4:2_000] = b"\xff" * 1_996
    path.write_bytes(bytes(raw))
    with pytest.raises(SourceError, match=r"events\.parquet: damaged after row 0"):
        list(ParquetFiles(str(path), COLUMNS).batches(RowReport()))


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", {"user": [1], "i": [1], "t": [1]})
    with pytest.raises(
        SourceError, match=r"no column 'u', which data\.columns\.user names, found \['user', 'i', 't'\]"
    ):
        list(ParquetFiles(path, COLUMNS).batches(RowReport()))


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ('{"country": "br", "app": true}', "br"),
        ('{"country": 3.0}', "3"),
        ('{"country": true}', "true"),
        ('{"app": true}', None),
        ('{"country": null}', None),
        ('{"country": ["br"]}', None),
        ('{"country": "\\ud800"}', None),
        ('["country"]', None),
        ('{"country": ', None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_a_key_of_a_cell_that_holds_json_is_a_column(tmp_path: Path, cell: str | None, told: str | None) -> None:
    events = {"u": ["u"] * 3, "i": ["i", "j", "k"], "context": pa.array(['{"country": "de"}', cell, None])}
    columns = Columns("u", "i", context={"country": "context.country"})
    store = ingest(ParquetFiles(write(tmp_path / "e.parquet", events), columns), tmp_path / "s")
    names, codes = store.context_names("country"), store.context("country").tolist()
    assert [names[code] if code >= 0 else None for code in codes] == ["de", told, None]


def test_a_column_whose_name_has_a_dot_comes_before_a_key(tmp_path: Path) -> None:
    events: dict[str, object] = {"u": ["u"], "i": ["i"], "context": ['{"a": "key"}'], "context.a": ["column"]}
    path = write(tmp_path / "e.parquet", events)
    store = ingest(ParquetFiles(path, Columns("u", "i", context={"a": "context.a"})), tmp_path / "s")
    assert store.context_names("a") == ["column"]
    with pytest.raises(SourceError, match=r"no column 'contest\.a', which data\.columns\.context\.a names, found"):
        list(ParquetFiles(path, Columns("u", "i", context={"a": "contest.a"})).batches(RowReport()))
