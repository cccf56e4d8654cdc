"""Small worlds that tests are run in: a catalogue, its people, a random-weight model, and the bundle made of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from retrank.contract.bundle import VerifiedBundle
from retrank.contract.encode import ITEM_ROWS, InputName
from retrank.contract.manifest import DataFacts, MetricFacts
from retrank.contract.sequences import Sequences
from retrank.export.assemble import assemble
from retrank.export.gates import Gates
from retrank.export.index import IndexPlan
from retrank.export.ranker import TrainedRanker
from retrank.export.sources import Catalogue, Circumstances, Fallbacks, TrainedModel

CREATED_AT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


class TinyEncoder(nn.Module):
    """Recency-weighted mean of item vectors: a query encoder that is small, fast to export and easy to reason about."""

    inputs: tuple[InputName, ...] = (ITEM_ROWS,)

    def __init__(self, num_items: int = 50, max_length: int = 10, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.num_items, self.max_length, self.width = num_items, max_length, width
        self.item = nn.Parameter(torch.randn(num_items + 1, width, generator=generator))
        self.recency = nn.Parameter(torch.linspace(0.1, 1.0, max_length)[:, None])
        with torch.no_grad():
            self.item[0] = 0

    def encode_all(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Return one query per position, [B, L, D]."""
        queries = [self.forward(item_rows[:, : at + 1]) for at in range(item_rows.shape[1])]
        return torch.stack(queries, dim=1)

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Return the query after the newest event, [B, D]."""
        weights = self.recency[-item_rows.shape[1] :] * (item_rows != 0)[:, :, None]
        pooled = (self.item[item_rows] * weights).sum(1) / weights.sum(1).clamp(min=0.1)
        return nn.functional.normalize(pooled, dim=-1)

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return unit vectors, of all rows as [N + 1, D]; row 0 zero."""
        return nn.functional.normalize(self.item if item_rows is None else self.item[item_rows], dim=-1)


def tiny_catalogue(num_items: int = 50, num_users: int = 20, seed: int = 0) -> Catalogue:
    """Items i1..iN with titles and prices; users u1..uU with 1..15 events each, u1 the longest."""
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([[15], rng.integers(1, 15, num_users - 1)])
    items = pa.table(
        {
            "item_id": [f"i{row}" for row in range(1, num_items + 1)],
            "title": [f"Thing number {row}" for row in range(1, num_items + 1)],
            "price": [round(1.5 + row / 4, 2) for row in range(1, num_items + 1)],
        }
    )
    histories = Sequences(
        rng.integers(1, num_items + 1, int(lengths.sum())).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    facts = DataFacts(
        name="tiny", data_hash="0" * 16, num_users=num_users, num_items=num_items, num_events=int(lengths.sum())
    )
    return Catalogue(items, [f"u{row}" for row in range(1, num_users + 1)], histories, facts)


def tiny_fallbacks(catalogue: Catalogue, top_k: int = 5) -> Fallbacks:
    """Popularity and direct successors, counted with plain loops."""
    num_items = len(catalogue.items)
    popularity = np.bincount(catalogue.histories.item_rows, minlength=num_items + 1).astype(np.float32)
    follows = np.zeros((num_items + 1, num_items + 1), np.float32)
    for rows in catalogue.histories:
        for before, after in pairwise(rows):
            follows[before, after] += 1
    order = np.argsort(-follows, axis=1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(follows, order, axis=1)
    return Fallbacks(popularity, np.where(weights > 0, order, 0).astype(np.int32), weights)


def tiny_model(encoder: nn.Module | None = None) -> TrainedModel:
    """Return a random-weight model with made-up metrics (they are there to exercise gates)."""
    metrics = MetricFacts(
        protocol="made up for tests",
        values={"ndcg@10": 0.2, "recall@10": 0.4},
        baselines={"popularity": {"ndcg@10": 0.1, "recall@10": 0.2}},
    )
    return TrainedModel(
        encoder=encoder or TinyEncoder(),  # type: ignore[arg-type]  # a Module given here follows QueryEncoder
        similarity="cosine",
        name="tiny encoder",
        run_id="tiny/0",
        metrics=metrics,
    )


def ticking_timer(step: float = 0.001) -> Callable[[], float]:
    """Return a timer that moves by `step` seconds per look, so that measured latencies are the same every time."""
    now = 0.0

    def timer() -> float:
        nonlocal now
        now += step
        return now

    return timer


@dataclass(frozen=True)
class TinyWorld:
    """All inputs of a tiny bundle; `replace` a part to see what happens."""

    model: TrainedModel = field(default_factory=tiny_model)
    catalogue: Catalogue = field(default_factory=tiny_catalogue)
    fallbacks: Fallbacks = field(default_factory=lambda: tiny_fallbacks(tiny_catalogue()))
    plan: IndexPlan = field(default_factory=IndexPlan)
    gates: Gates = field(default_factory=lambda: Gates(parity_rows=200))
    ranker: TrainedRanker | None = None
    seed: int = 0
    lines: list[str] = field(default_factory=list)

    def assemble(self, root: Path) -> VerifiedBundle:
        """Write the bundle under `root`; progress lines are kept in `lines`."""
        return assemble(
            self.model,
            self.catalogue,
            self.fallbacks,
            root,
            plan=self.plan,
            gates=self.gates,
            circumstances=Circumstances(
                now=lambda: CREATED_AT, timer=ticking_timer(), seed=self.seed, git_commit=None, say=self.lines.append
            ),
            ranker=self.ranker,
        )


__all__ = ["CREATED_AT", "TinyEncoder", "TinyWorld", "replace", "ticking_timer", "tiny_catalogue", "tiny_model"]
