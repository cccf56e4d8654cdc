"""Measure index families on made-up catalogues: recall, one-query latency on one thread, build time and size.

    python scripts/bench_index.py                          # 10k, 100k and 1M items of width 64, a few minutes
    python scripts/bench_index.py --sizes 10000 --out -    # one size, to the screen

Items lie on unit vectors around 2,000 centres inside a 24-dimensional part of the space plus full-width noise, as
trained embeddings do; a query is the direction of three items plus noise, so queries are not distributed like items.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from retrank.export.index import Family, Flat, Hnsw, IndexPlan, Ivf, IvfPq, write_index
from retrank.export.recall import Measured, build_and_measure, one_thread

WIDTH, NUM_QUERIES = 64, 1_000
LARGE = 300_000
"""Above this, only codes are measured: graphs take long to build, and the exact scan has a column of its own."""


class Row(NamedTuple):
    """One line of the table."""

    num_items: int
    chosen: bool
    measured: Measured
    seconds: float
    bytes_per_item: float

    def markdown(self) -> str:
        found = self.measured
        settings = ", ".join(f"{name} {value}" for name, value in found.settings.items()) or "none"
        return (
            f"| {self.num_items:,} | {found.factory}{' (chosen)' if self.chosen else ''} | {settings} | "
            f"{found.recall:.4f} | {found.latency.p50_ms:.3f} | {found.latency.p99_ms:.3f} | "
            f"{found.exact_latency.p50_ms:.3f} | {self.seconds:.1f} | {self.bytes_per_item:.0f} |"
        )


def world(num_items: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `[N + 1, 64]` item vectors (row 0 zero) and `[1000, 64]` queries, all of length 1."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(24, WIDTH)).astype(np.float32) / np.float32(np.sqrt(24))
    centres = rng.normal(size=(2_000, 24)).astype(np.float32)
    inside = centres[rng.integers(0, len(centres), num_items + 1)]
    inside += 0.6 * rng.standard_normal((num_items + 1, 24), dtype=np.float32)
    vectors = inside @ plane + 0.15 * rng.standard_normal((num_items + 1, WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[rng.integers(1, num_items + 1, (NUM_QUERIES, 3))].sum(1)
    queries += 0.1 * rng.standard_normal((NUM_QUERIES, WIDTH), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    vectors[0] = 0
    return vectors, queries


def measure(num_items: int, recall_target: float) -> Iterator[Row]:
    vectors, queries = world(num_items)
    chosen = IndexPlan(recall_target).choose(num_items)
    families: list[Family] = [IvfPq()] if num_items > LARGE else [Flat(), Ivf(), IvfPq(), Hnsw()]
    for family in families:
        start = time.perf_counter()
        plan = IndexPlan(recall_target, family=family)
        measured = build_and_measure(plan, vectors, queries, timer=time.perf_counter)
        seconds = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "items.faiss"
            write_index(measured.index, str(path))
            size = path.stat().st_size / num_items
        yield Row(num_items, type(family) is type(chosen), measured, seconds, size)


def batch_milliseconds(num_items: int, batch: int, threshold: int | None) -> float:
    """Time an exact scan for a batch of queries on one thread, with FAISS's own or the given BLAS threshold."""
    vectors, queries = world(num_items)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors[1:])
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = before if threshold is None else threshold
    taken = []
    try:
        with one_thread():
            for _ in range(7):
                start = time.perf_counter()
                index.search(queries[:batch], 100)
                taken.append(1_000 * (time.perf_counter() - start))
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
    return float(np.median(taken[2:]))


def report(sizes: list[int], recall_target: float) -> Iterator[str]:
    yield "# Item indexes: recall and latency\n"
    yield (
        f"`python scripts/bench_index.py`, {datetime.now(UTC):%Y-%m-%d}, faiss {faiss.__version__}, {_cpu_name()}, "
        f"load average {os.getloadavg()[0]:.1f} at the start (other work on the machine shows in p99). Width {WIDTH}, "
        f"top 100, recall target {recall_target} on 500 tuning queries, measured on 500 others. One-query "
        "searches on one thread; `total s` is build, tuning and measuring. The items are made up (see the script); a "
        "bundle's manifest holds the figures of its own items.\n"
    )
    yield "| items | index | settings | recall@100 | p50 ms | p99 ms | exact p50 ms | total s | bytes/item |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for num_items in sizes:
        for row in measure(num_items, recall_target):
            yield row.markdown()
    yield "\n## Exact scan of a few queries at once\n"
    yield (
        "FAISS hands an exact scan to BLAS from `distance_compute_blas_threshold` query components on, "
        f"{faiss.cvar.distance_compute_blas_threshold:,} by default. Milliseconds on one thread for {min(sizes):,} "
        "items, top 100, with that default and with 800.\n"
    )
    yield "| queries | default | threshold 800 |"
    yield "|---|---|---|"
    for batch in (8, 32, 256):
        default, tuned = (batch_milliseconds(min(sizes), batch, threshold) for threshold in (None, 800))
        yield f"| {batch} | {default:.2f} | {tuned:.2f} |"


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x {len(names) or 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of items")
    parser.add_argument("--recall-target", type=float, default=0.95)
    parser.add_argument("--out", default="docs/benchmarks/index.md", help="Markdown file, - for the screen only")
    arguments = parser.parse_args()
    lines = []
    for line in report(arguments.sizes, arguments.recall_target):
        print(line, flush=True)
        lines.append(line)
    if arguments.out != "-":
        Path(arguments.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
