"""Online Retail: one year of invoices of a UK gift shop, the built-in real dataset.

An event is an invoice line: user = customer, item = stock code, value = quantity x unit price in pounds, time = invoice
date (UK clock, kept as if UTC). Lines of one invoice share one time and keep their order (the tie policy of the store).
Stock codes that differ only in case are one product and are written in upper case.

Lines are left out by these rules, in this order, each counted:
    cancellation or return      invoice number starts with C, or quantity <= 0
    missing customer            nobody to learn a history for
    price not above zero        gifts, samples and corrections
    not a product               the stock code does not start with five digits (POST, DOT, M, D, BANK CHARGES, ...)
    exact duplicate             equal to an earlier line in all eight columns

Source: Chen, Sain and Guo 2012, doi:10.1057/dbm.2012.17; UCI Machine Learning Repository, dataset 352, CC BY 4.0.
"""

import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrank.contract.errors import SourceError
from retrank.data.readers.protocol import CONTEXT_PREFIX, ITEM, TIME, USER, VALUE
from retrank.data.report import RowReport

BUILTIN = Path(__file__).parents[1] / "builtin" / "online_retail.parquet"
_COLUMNS = (
    "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
)  # fmt: skip


@dataclass(frozen=True)
class OnlineRetail:
    """Reader of the Online Retail table.

    Attributes:
        path: a Parquet file with the eight columns; the copy in the package when not given.
        name: name of the dataset.
    """

    path: str | None = None
    name: str = "online_retail"
    _items: list[pa.Table] = field(default_factory=list, init=False, repr=False, compare=False)

    def sources(self) -> Sequence[Path]:
        """Return the file.

        Raises:
            SourceError: it does not exist.
        """
        path = Path(self.path) if self.path else BUILTIN
        if not path.is_file():
            raise SourceError(f"{path}: no such file; leave data.path empty to read the copy inside the package")
        return [path]

    def expected_rows(self) -> int | None:
        """Return the number of lines."""
        return int(self._table().num_rows)

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield all accepted lines as one batch.

        Raises:
            SourceError: the file is not Parquet or lacks a column.
        """
        table = self._table()
        report.read(table.num_rows)
        lines = table.filter(pa.array(_accepted(table, report)))
        codes = pc.utf8_upper(lines["StockCode"])
        self._items[:] = [_describe_items(codes, lines["Description"], lines["UnitPrice"])]
        columns = {
            USER: lines["CustomerID"].cast(pa.int64()),
            ITEM: codes,
            TIME: lines["InvoiceDate"].cast(pa.timestamp("us")).cast(pa.int64()),
            VALUE: pc.multiply(lines["Quantity"].cast(pa.float64()), lines["UnitPrice"]),
            CONTEXT_PREFIX + "country": lines["Country"],
        }
        yield from pa.table(columns).combine_chunks().to_batches()

    def item_table(self, report: RowReport) -> pa.Table | None:  # noqa: ARG002  (nothing to refuse)
        """Return per stock code `title` (most frequent description) and `price` (median unit price, pounds)."""
        return self._items[0] if self._items else None

    def _table(self) -> pa.Table:
        (path,) = self.sources()
        try:
            names = pq.read_schema(path).names
            missing = [name for name in _COLUMNS if name not in names]
            if missing:
                raise SourceError(f"{path}: no column {missing[0]!r}, found {names}; expected the Online Retail table")
            return pq.read_table(path, columns=list(_COLUMNS))
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: not a readable Parquet file ({error})") from error


def _accepted(table: pa.Table, report: RowReport) -> NDArray[np.bool_]:
    """Return which lines no rule leaves out, `[lines]` bool."""
    returned = pc.or_(pc.starts_with(table["InvoiceNo"], "C"), pc.less_equal(table["Quantity"], 0))
    rules = {
        "cancellation or return": returned,
        "missing customer": pc.is_null(table["CustomerID"]),
        "price not above zero": pc.less_equal(table["UnitPrice"], 0),
        "not a product": pc.invert(pc.match_substring_regex(table["StockCode"], r"^\d{5}")),
        "exact duplicate": _is_repeated(table),
    }
    accepted = np.ones(table.num_rows, dtype=bool)
    for rule, matching in rules.items():
        applies = np.asarray(matching)
        report.leave_out(rule, int(np.count_nonzero(applies & accepted)), matching=int(np.count_nonzero(applies)))
        accepted &= ~applies
    return accepted


def _is_repeated(table: pa.Table) -> NDArray[np.bool_]:
    """Return which lines equal an earlier one, `[lines]` bool."""
    numbered = table.append_column("line", pa.array(np.arange(table.num_rows)))
    firsts = numbered.group_by(list(_COLUMNS)).aggregate([("line", "min")])["line_min"]
    repeated = np.ones(table.num_rows, dtype=bool)
    repeated[np.asarray(firsts)] = False
    return repeated


def _describe_items(codes: pa.ChunkedArray, descriptions: pa.ChunkedArray, prices: pa.ChunkedArray) -> pa.Table:
    titles: defaultdict[str, Counter[str]] = defaultdict(Counter)
    paid: defaultdict[str, list[float]] = defaultdict(list)
    rows = zip(codes.to_pylist(), descriptions.to_pylist(), prices.to_pylist(), strict=True)
    for code, description, price in rows:
        titles[code][string.capwords(description or "")] += 1
        paid[code].append(price)
    best = [min(counts, key=lambda title: (-counts[title], title)) for counts in titles.values()]
    medians = [round(float(np.median(paid[code])), 2) for code in titles]
    return pa.table({"item_id": list(titles), "title": best, "price": medians})
