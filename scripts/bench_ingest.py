"""How fast and how lean is ingest? Rows per second, peak memory of the process, and size of the store.

    python scripts/bench_ingest.py --rows 20000000 --folder /tmp/bench --report docs/benchmarks/ingest.md

Events are synthetic: users uniform, items Zipf-distributed, times uniform over one year and in no order, ids 64-bit
integers. Each source is ingested by a fresh process, whose peak memory is the `ru_maxrss` the kernel reports.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.parquet_files import ParquetFiles

NUM_USERS = 200_000
NUM_ITEMS = 50_000
FIRST_SECOND = 1_600_000_000
SECONDS = 365 * 86_400
BLOCK = 1_000_000
SEED = 20_250_101


def blocks(rows: int) -> Iterator[pa.Table]:
    generator = np.random.default_rng(SEED)
    popularity = 1.0 / np.arange(1, NUM_ITEMS + 1)
    cumulative = np.cumsum(popularity) / popularity.sum()
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        items = np.minimum(np.searchsorted(cumulative, generator.random(size)), NUM_ITEMS - 1)
        yield pa.table(
            {
                "user": generator.integers(0, NUM_USERS, size),
                "item": items * 1_000_003 + 7,
                "time": FIRST_SECOND + generator.integers(0, SECONDS, size),
            }
        )


def make_sources(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = next(blocks(1))
    with (
        pq.ParquetWriter(folder / "events.parquet", first.schema, compression="zstd") as parquet,
        pacsv.CSVWriter(folder / "events.csv", first.schema) as text,
    ):
        for block in blocks(rows):
            parquet.write_table(block)
            text.write_table(block)


def ingest_here(kind: str, folder: Path) -> None:
    """Ingest in this process and print what it took."""
    columns = Columns(user="user", item="item", time="time")
    source = str(folder / f"events.{kind}")
    started, started_cpu = time.perf_counter(), time.process_time()
    store = ingest(
        ParquetFiles(source, columns, "bench") if kind == "parquet" else Delimited(source, columns, "bench"),
        folder / f"store-{kind}",
    )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = sum(path.stat().st_size for path in store.directory.iterdir())
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - started_cpu, "peak": peak, "size": size}))


def measure(kind: str, folder: Path) -> dict[str, float]:
    subprocess.run(["rm", "-rf", str(folder / f"store-{kind}")], check=True)
    command = [sys.executable, __file__, "--folder", str(folder), "--child", kind]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def render(rows: int, results: dict[str, dict[str, float]], folder: Path) -> str:
    lines = [
        "# Ingest: speed and memory",
        "",
        f"`python scripts/bench_ingest.py --rows {rows}` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}, pyarrow {pa.__version__}, "
        f"numpy {np.__version__}, load {os.getloadavg()[0]:.1f} at the end of the run.",
        "",
        f"{rows:,} synthetic events, {NUM_USERS:,} users, {NUM_ITEMS:,} items (Zipf), one year of times in no order;",
        "the time taken includes hashing the source, reading, sorting, writing and syncing the store. Peak memory is",
        "`ru_maxrss` of a fresh process, interpreter and libraries included; CPU seconds are those of all its threads,",
        "to be read beside the wall clock when the machine does other work.",
        "",
        "| source | source MB | seconds | M rows/s | CPU seconds | peak memory MB | store MB | peak / store |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, result in results.items():
        source = (folder / f"events.{kind}").stat().st_size
        speed = rows / result["seconds"] / 1e6
        lines.append(
            f"| {kind} | {source / 1e6:.0f} | {result['seconds']:.1f} | {speed:.2f} | {result['cpu']:.1f} "
            f"| {result['peak'] / 1e6:.0f} | {result['size'] / 1e6:.0f} | {result['peak'] / result['size']:.2f} |"
        )
    lines += ["", "Targets: at least 1 M rows/s from Parquet, peak memory below 3 times the store.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="where to keep sources and stores")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--child", choices=["parquet", "csv"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        ingest_here(arguments.child, arguments.folder)
        return
    make_sources(arguments.folder, arguments.rows)
    results = {kind: measure(kind, arguments.folder) for kind in ("parquet", "csv")}
    text = render(arguments.rows, results, arguments.folder)
    print(text)
    if arguments.report:
        arguments.report.write_text(text)


if __name__ == "__main__":
    main()
