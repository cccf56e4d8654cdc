"""How much of the exact answer an index finds, and how long one query takes on one thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import GateError
from retrank.export.exact import exact_top_k
from retrank.export.index import Design, IndexPlan, Settings, apply, build

Timer = Callable[[], float]
"""Monotonic seconds, such as `time.perf_counter`."""
TUNING_MARGIN = 0.1
"""Tuning aims this share of the allowed loss higher than the target, so that fresh queries still meet it."""
_SAME_SCORE = 1e-6


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a one-query search on one thread."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Measured:
    """A tuned index and what was measured on queries that tuning did not see."""

    index: Any
    factory: str
    settings: Settings
    recall_at: int
    recall: float
    num_queries: int
    latency: Latency
    exact_latency: Latency


@dataclass(frozen=True)
class Probe:
    """Queries with what exact search says about them.

    Attributes:
        queries: `[B, D]` float32.
        item_vectors: `[N + 1, D]` float32, row 0 unused.
        k: length of the exact top.
        floor: `[B, 1]` float32 score of the k-th best item, less float32 noise.
    """

    queries: NDArray[np.float32]
    item_vectors: NDArray[np.float32]
    k: int
    floor: NDArray[np.float32]

    @classmethod
    def of(cls, queries: NDArray[np.float32], item_vectors: NDArray[np.float32], k: int) -> "Probe":
        """Search exactly, once."""
        _, scores = exact_top_k(queries, item_vectors, k)
        worst = scores[:, -1:]
        noise = np.float32(_SAME_SCORE) * np.maximum(np.float32(1), np.abs(worst))
        return cls(queries, item_vectors, k, worst - noise)

    def recall(self, index: Any) -> float:
        """Return the mean share of the exact top k that an index finds.

        A found item counts when its exact score is not below the k-th exact score, so that equal scores cost nothing.
        """
        _, rows = index.search(self.queries, self.k)
        scores = np.einsum("bd,bkd->bk", self.queries, self.item_vectors[np.maximum(rows, 0)])
        return float(((rows > 0) & (scores >= self.floor)).mean())


def tune(index: Any, design: Design, recall_target: float, probe: Probe) -> Settings:
    """Apply and return the cheapest settings whose recall on the tuning queries meets the target with a margin.

    Raises:
        GateError: no setting does.
    """
    wanted = recall_target + TUNING_MARGIN * (1 - recall_target)
    seen = 0.0
    for settings in design.ladder:
        apply(index, settings)
        seen = probe.recall(index)
        if seen >= wanted:
            return settings
    raise GateError(
        f"index {design.factory}: best recall@{probe.k} {seen:.4f}, tuning needs {wanted:.4f} for a target of "
        f"{recall_target}; choose another index family or lower index.recall_target"
    )


def latency(index: Any, queries: NDArray[np.float32], k: int, timer: Timer) -> Latency:
    """Time one-query searches, after a short warm-up."""
    for query in queries[:10]:
        index.search(query[None], k)
    taken = []
    for query in queries:
        start = timer()
        index.search(query[None], k)
        taken.append(1_000 * (timer() - start))
    return Latency(*(float(value) for value in np.percentile(taken, [50, 99])))


def build_and_measure(
    plan: IndexPlan, item_vectors: NDArray[np.float32], queries: NDArray[np.float32], *, timer: Timer
) -> Measured:
    """Build the index of a plan, tune it on the even queries and measure it on the odd ones.

    Args:
        plan: family and recall target.
        item_vectors: `[N + 1, D]` float32, row 0 unused.
        queries: `[B, D]` float32 real queries, at least 2; the index never sees them while it is built.
        timer: monotonic seconds.

    Raises:
        GateError: the target cannot be reached.
    """
    num_items, width = len(item_vectors) - 1, item_vectors.shape[1]
    k = min(plan.recall_at, num_items)
    design = plan.choose(num_items).design(num_items, width)
    index = build(design.factory, item_vectors)
    settings = tune(index, design, plan.recall_target, Probe.of(queries[0::2], item_vectors, k))
    fresh = queries[1::2]
    exact = faiss.IndexFlatIP(width)
    exact.add(np.ascontiguousarray(item_vectors[1:]))
    with one_thread():
        return Measured(
            index=index,
            factory=design.factory,
            settings=settings,
            recall_at=k,
            recall=Probe.of(fresh, item_vectors, k).recall(index),
            num_queries=len(fresh),
            latency=latency(index, fresh, k, timer),
            exact_latency=latency(exact, fresh[:200], k, timer),
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Give FAISS one thread, as a serving replica does."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
