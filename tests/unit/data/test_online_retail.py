"""The built-in dataset: its rules on a table of ten lines, and its known counts."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrank.contract.errors import SourceError
from retrank.data.ingest import ingest
from retrank.data.leaks import check_leaks
from retrank.data.readers.online_retail import OnlineRetail
from retrank.data.report import RowReport
from retrank.data.splits import GlobalTemporal

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
MORNING = dt.datetime(2011, 3, 1, 9, 30)
LINES = [
    ("536365", "85123A", "WHITE  HOLDER", 6, MORNING, 2.55, 17850, "United Kingdom"),
    ("536365", "71053", "LANTERN", 6, MORNING, 3.39, 17850, "United Kingdom"),
    ("536366", "85123a", "WHITE HOLDER", 2, MORNING, 2.95, 13047, "France"),
    ("536366", "85123A", "wrongly marked", 1, MORNING, 2.65, 13047, "France"),
    ("C53636", "71053", "LANTERN", -6, MORNING, 3.39, 17850, "United Kingdom"),
    ("536367", "71053", "damaged", -3, MORNING, 0.0, None, "United Kingdom"),
    ("536367", "71053", "LANTERN", 1, MORNING, 3.39, None, "United Kingdom"),
    ("536368", "71053", "LANTERN", 1, MORNING, 0.0, 13047, "France"),
    ("536368", "POST", "POSTAGE", 1, MORNING, 18.0, 13047, "France"),
    ("536365", "71053", "LANTERN", 6, MORNING, 3.39, 17850, "United Kingdom"),
]


def test_each_rule_leaves_out_its_lines_and_is_counted(tmp_path: Path) -> None:
    columns = dict(zip(COLUMNS, map(list, zip(*LINES, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "retail.parquet")
    store = ingest(OnlineRetail(str(tmp_path / "retail.parquet")), tmp_path / "store")
    report = store.facts.report
    assert report["filtered"] == {
        "cancellation or return": 2,
        "missing customer": 1,
        "price not above zero": 1,
        "not a product": 1,
        "exact duplicate": 1,
    }
    assert report["matching"]["price not above zero"] == report["matching"]["missing customer"] == 2
    assert (report["rows"], report["accepted"], report["bad"]) == (10, 4, {})
    assert store.users.ids == ["17850", "13047"]
    assert [rows.tolist() for rows in store.sequences] == [[1, 2], [1, 1]]
    assert store.values is not None
    assert store.values.tolist() == pytest.approx([15.3, 20.34, 5.9, 2.65])
    assert store.item_table.to_pylist() == [
        {"item_id": "85123A", "title": "White Holder", "price": 2.65},
        {"item_id": "71053", "title": "Lantern", "price": 3.39},
    ]


def test_the_copy_in_the_package_has_the_known_counts(tmp_path: Path) -> None:
    store = ingest(OnlineRetail(), tmp_path / "store")
    report = store.facts.report
    assert report["rows"] == 541_909
    assert report["matching"] == {
        "cancellation or return": 10_624,
        "missing customer": 135_080,
        "price not above zero": 2_517,
        "not a product": 2_995,
        "exact duplicate": 5_268,
    }
    assert report["accepted"] == store.facts.num_events == 391_150
    assert (store.num_users, store.num_items) == (4_334, 3_659)
    assert store.item_table["title"].null_count == 0
    assert str(store.facts.first_event_at) == "2010-12-01 08:26:00+00:00"
    split = GlobalTemporal()(store.sequences)
    check_leaks(split, one_moment=True)
    assert (len(split.validation), len(split.test)) == (928, 919)


def test_cancelled_invoices_alone_are_the_published_number() -> None:
    table = pq.read_table(OnlineRetail().sources()[0])
    assert sum(number.startswith("C") for number in table["InvoiceNo"].to_pylist()) == 9_288


def test_another_table_is_refused_by_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"InvoiceNo": ["1"]}), tmp_path / "other.parquet")
    with pytest.raises(SourceError, match="no column 'StockCode'"):
        list(OnlineRetail(str(tmp_path / "other.parquet")).batches(RowReport()))
    with pytest.raises(SourceError, match="no such file"):
        OnlineRetail(str(tmp_path / "none.parquet")).sources()
