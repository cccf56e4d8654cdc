"""Make the built-in dataset from the Online Retail table (UCI Machine Learning Repository, dataset 352, CC BY 4.0).

    python scripts/make_online_retail.py online_retail.parquet src/retrank/data/builtin/online_retail.parquet

Keeps all rows in their order and the eight columns; only types and compression change. The customer number, which the
source stores as a float because some are missing, becomes a nullable integer; a fraction would stop the script.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    {
        "InvoiceNo": pa.string(),
        "StockCode": pa.string(),
        "Description": pa.string(),
        "Quantity": pa.int32(),
        "InvoiceDate": pa.timestamp("s"),
        "UnitPrice": pa.float64(),
        "CustomerID": pa.int32(),
        "Country": pa.string(),
    }
)


def make(source: Path, target: Path) -> None:
    table = pq.read_table(source, columns=SCHEMA.names).cast(SCHEMA)
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata(None),
        target,
        compression="zstd",
        compression_level=22,
        use_dictionary=True,
        row_group_size=table.num_rows,
        data_page_size=1 << 24,
        dictionary_pagesize_limit=1 << 24,
        write_statistics=False,
        store_schema=False,
    )
    back = pq.read_table(target)
    for name in SCHEMA.names:
        if back.column(name).cast(SCHEMA.field(name).type) != table.column(name):
            raise SystemExit(f"{target}: column {name} is not what was written")
    print(f"{target}: {table.num_rows:,} rows, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    make(arguments.source, arguments.target)
