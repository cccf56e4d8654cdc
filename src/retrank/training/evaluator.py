"""Exact evaluation of any scorer over the whole catalogue, a block of cases at a time.

Not here: how cases are cut (`data.splits`), what the metrics mean (`metrics.ranking`, `metrics.catalogue`).
"""

import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from retrank.contract.cases import Cases
from retrank.contract.errors import DataError, TrainingError
from retrank.contract.sequences import Sequences
from retrank.data.progress import hidden
from retrank.metrics import catalogue
from retrank.metrics.block_ranking import rank_block
from retrank.metrics.case_ranks import KS, CaseRanks
from retrank.metrics.slices import Slice, by_history_length, by_target_popularity
from retrank.metrics.tile_ranking import rank_tiles
from retrank.models.protocols import Preparable, Scorer
from retrank.training.item_tiles import Tiled

CATALOGUE_KS = (10, 100)
_FIRST_BLOCK, _LARGEST_BLOCK = 32, 1024
_TILED_BLOCK = 4096  # a case then takes a query and a list, and the threads seldom wait for one another
_VALUES_PER_BLOCK = 6 << 20  # 25 MB; what is larger, the C library returns and fetches anew, page by page, each time
_VALUES_IN_PLACE = 24 << 20  # where a scorer keeps its memory: more cases share one pass over the item vectors


@dataclass(frozen=True)
class Evaluation:
    """What one scorer achieved on C cases.

    Attributes:
        metrics: mean over cases, such as `ndcg@10`; of the recommended lists, such as `coverage@10`; and
            `untrained_recall@10` and `@100`, the share found of all targets without a training event, if there are any.
        ranks: rank of every target of every case, from which everything else but the catalogue metrics follows.
        slices: by history length (per case) and by popularity of the target (per target).
        history_lengths: `[C]` int64 events in the input of each case.
        shown: `[N + 1]` int64, how often each item stood in a list of the first `CATALOGUE_KS` entry.
        train_counts: `[N + 1]` int64 training events of each item.
        scorer_seconds: time inside the scorer.
        seconds: time in all.
    """

    metrics: dict[str, float]
    ranks: CaseRanks
    slices: list[Slice]
    history_lengths: NDArray[np.int64]
    shown: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    scorer_seconds: float
    seconds: float


def evaluate(
    scorer: Scorer,
    cases: Cases,
    train: Sequences,
    *,
    batch_size: int | None = None,
    ks: tuple[int, ...] = KS,
    progress: bool = False,
) -> Evaluation:
    """Rank the whole catalogue for every case; items of the case's input are removed, targets never.

    Args:
        scorer: gives `[B, N + 1]` float32 scores for B histories.
        cases: C cases; each input is what the scorer may read.
        train: U training histories; they define item popularity for slices, novelty and popularity lift.
        batch_size: cases scored at a time, >= 1; working memory is about 4 bytes x batch_size x N, less of a `Tiled`
            scorer. By default 4,096 of such a one; of others a few first, which tell N, then as many as fill 25 MB,
            or 100 MB of a `Preparable`, between 32 and 1,024. It changes no result.
        ks: list lengths for HR, Recall, NDCG and MRR.
        progress: show a progress bar.

    Raises:
        DataError: no cases, scores of the wrong shape or NaN, or a target outside the scored catalogue.
        TrainingError: the system does not start as many threads as torch uses.
    """
    if len(cases) == 0:
        raise DataError("there are no cases to evaluate; the split left no user with a target")
    started = time.perf_counter()
    fill = _VALUES_IN_PLACE if isinstance(scorer, Preparable) else _VALUES_PER_BLOCK
    scorer = scorer.prepared() if isinstance(scorer, Preparable) else scorer
    with (
        _single_threaded_workers() as executor,
        tqdm(total=len(cases), desc="evaluate", unit="case", leave=False, disable=hidden(progress)) as bar,
    ):
        ranking = _Ranking(executor, fill)
        done = 0
        while done < len(cases):
            block = np.arange(done, min(done + (batch_size or ranking.block_size(scorer)), len(cases)))
            ranking.add(scorer, cases.take(block))
            bar.update(len(block))
            done += len(block)
    num_items = len(ranking.shown[0]) - 1
    ranks = CaseRanks(
        users=np.asarray(cases.users),
        offsets=np.asarray(cases.targets.offsets),
        targets=np.asarray(cases.targets.item_rows),
        ranks=np.concatenate(ranking.ranks),
        num_items=num_items,
    )
    train_counts = catalogue.item_counts(train, num_items)
    consumed = catalogue.item_counts(cases.inputs, num_items)
    metrics = ranks.mean(ks)
    for k, shown in zip(CATALOGUE_KS, ranking.shown, strict=True):
        metrics[f"coverage@{k}"] = catalogue.coverage(shown)
        metrics[f"gini@{k}"] = catalogue.gini(shown)
        metrics[f"novelty@{k}"] = catalogue.novelty(shown, train_counts)
        metrics[f"popularity_lift@{k}"] = catalogue.popularity_lift(shown, consumed, train_counts)
    untrained = ranks.ranks[train_counts[ranks.targets] == 0]
    if len(untrained):
        metrics |= {f"untrained_recall@{k}": float((untrained <= k).mean()) for k in CATALOGUE_KS}
    return Evaluation(
        metrics=metrics,
        ranks=ranks,
        slices=by_history_length(ranks, cases.inputs.lengths) + by_target_popularity(ranks, train_counts),
        history_lengths=cases.inputs.lengths,
        shown=ranking.shown[0],
        train_counts=train_counts,
        scorer_seconds=ranking.scorer_seconds,
        seconds=time.perf_counter() - started,
    )


def save_ranks(evaluation: Evaluation, path: Path, *, data_hash: str, protocol: str) -> None:
    """Write the ranks of an evaluation for `retrank compare`.

    Args:
        evaluation: result of `evaluate` on the test cases.
        path: file to write, `ranks.npz` in a run folder.
        data_hash: hash of the store.
        protocol: `Split.protocol`.
    """
    evaluation.ranks.save(path, data_hash=data_hash, protocol=protocol)


class _Ranking:
    """Collects ranks and list counts over blocks of cases."""

    def __init__(self, executor: Executor, fill: int) -> None:
        self.executor, self.fill = executor, fill
        self.ranks: list[NDArray[np.int32]] = []
        self.shown: list[NDArray[np.int64]] = []
        self.scorer_seconds = 0.0

    def block_size(self, scorer: Scorer) -> int:
        """Return how many cases to rank next."""
        if isinstance(scorer, Tiled) and scorer.tiles:
            return _TILED_BLOCK
        if not self.shown:
            return _FIRST_BLOCK
        return max(_FIRST_BLOCK, min(self.fill // len(self.shown[0]), _LARGEST_BLOCK))

    def add(self, scorer: Scorer, cases: Cases) -> None:
        started = time.perf_counter()
        tiles = scorer.tiles if isinstance(scorer, Tiled) else None
        scored = scorer.queries(cases.inputs) if tiles and isinstance(scorer, Tiled) else scorer.score(cases.inputs)
        self.scorer_seconds += time.perf_counter() - started
        num_items = (tiles.size if tiles else scored.shape[1]) - 1
        if scored.shape[0] != len(cases) or cases.targets.item_rows.max() > num_items:
            raise DataError(
                f"scores of shape {[len(scored), num_items + 1]} for {len(cases)} cases with targets up to item row "
                f"{cases.targets.item_rows.max()}; expected [cases, items + 1] over the whole catalogue"
            )
        seen, targets = ((_owners(part), part.item_rows) for part in (cases.inputs, cases.targets))
        rank = partial(rank_tiles, tiles) if tiles else rank_block
        ranks, listed = rank(
            scored, cases.users, seen=seen, targets=targets, top_ks=CATALOGUE_KS, executor=self.executor
        )
        self.ranks.append(ranks)
        counts = [np.bincount(items, minlength=num_items + 1) for items in listed]
        self.shown = [a + b for a, b in zip(self.shown, counts, strict=True)] if self.shown else counts


@contextmanager
def _single_threaded_workers() -> Iterator[Executor]:
    """Start as many threads as torch uses, in each of which it uses one: they multiply tiles at the same time."""
    num_threads = torch.get_num_threads()
    begun = Barrier(num_threads)

    def begin() -> None:
        torch.set_num_threads(1)  # OpenMP keeps it per thread, MKL for all
        begun.wait()

    with ThreadPoolExecutor(num_threads) as executor:
        beginnings: list[Future[None]] = []
        try:
            for _ in range(num_threads):
                beginnings.append(executor.submit(begin))
        except RuntimeError as error:  # the operating system starts no more; those begun wait for all of them
            begun.abort()
            executor.shutdown(cancel_futures=True)
            torch.set_num_threads(num_threads)
            raise TrainingError(
                f"{len(beginnings)} of the {num_threads} threads that evaluate could be started ({error}); use fewer "
                "(trainer.threads, or OMP_NUM_THREADS), or allow this process more (ulimit -u, pids of its cgroup)"
            ) from error
        for beginning in beginnings:
            beginning.result()
        torch.set_num_threads(num_threads)
        yield executor


def _owners(sequences: Sequences) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sequences)), sequences.lengths)
