"""A tiny bundle with a second stage: random weights, real sources, events with times."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from worlds import TinyEncoder, TinyWorld, tiny_catalogue, tiny_model

from retrank.contract.encode import ACTIONS, ITEM_ROWS, InputName
from retrank.contract.heads import Head
from retrank.contract.ranker_spec import HeadSpec, RankerSpec
from retrank.contract.sequences import Sequences
from retrank.export.ranker import TrainedRanker
from retrank.export.run_folder import count_fallbacks
from retrank.export.sources import Catalogue
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.models.ranker import Ranker
from retrank.training.ranking.sources import SourceSettings

DAY_US = 86_400_000_000
SETTINGS = SourceSettings(
    limits={"sequence": 6, "covisit": 5, "neighbours": 5, "popular": 4, "fresh": 3},
    covisit_window=5,
    list_length=5,
    half_life_days=5.0,
    fresh_days=9.0,
    numbers=("price",),
)
HEADS = (Head("purchase", "binary"), Head("value", "value", given="purchase"))


ACTIONS_KNOWN = ("view", "buy")


class ActingEncoder(TinyEncoder):
    """A tiny encoder for which a view counts less, and buying more, than what nobody said anything about."""

    inputs: tuple[InputName, ...] = (ITEM_ROWS, ACTIONS)

    def __init__(self) -> None:
        super().__init__()
        self.force = nn.Parameter(torch.tensor([[1.0], [0.2], [4.0]]))

    def forward(self, item_rows: torch.Tensor, actions: torch.Tensor | None = None) -> torch.Tensor:
        """Return the query after the newest event, [B, D]."""
        assert actions is not None
        weights = self.recency[-item_rows.shape[1] :] * (item_rows != 0)[:, :, None] * self.force[actions]
        pooled = (self.item[item_rows] * weights).sum(1) / weights.sum(1).clamp(min=0.01)
        return nn.functional.normalize(pooled, dim=-1)


def timed_catalogue() -> Catalogue:
    """The tiny catalogue with events on forty days, seen or bought; items with high rows appear late."""
    catalogue = tiny_catalogue()
    rows = np.asarray(catalogue.histories.item_rows)
    random = np.random.default_rng(5)
    days = random.integers(0, 40, len(rows)) + rows // 10
    for start, stop in zip(catalogue.histories.offsets, catalogue.histories.offsets[1:], strict=False):
        days[start:stop].sort()
    times = days * DAY_US + random.integers(0, 1_000, len(rows)).cumsum()
    actions = random.integers(0, 1 + len(ACTIONS_KNOWN), len(rows)).astype(np.int16)
    histories = Sequences(rows, catalogue.histories.offsets, times, actions=actions)
    return replace(catalogue, histories=histories, actions=ACTIONS_KNOWN)


def untrained_ranker(encoder: TinyEncoder, seed: int = 0) -> TrainedRanker:
    """A ranker with random weights, bins and rotation, whose answers spread."""
    spec = RankerSpec(
        limits=dict(SETTINGS.limits),  # type: ignore[arg-type]  # names are sources
        covisit_window=SETTINGS.covisit_window,
        fresh_days=SETTINGS.fresh_days,
        history_length=7,
        numbers=SETTINGS.numbers,
        heads=tuple(HeadSpec(**vars(head), weight=1.0) for head in HEADS),
    )
    torch.manual_seed(seed)
    model = Ranker(len(spec.features), encoder.width, HEADS, num_actions=len(ACTIONS_KNOWN), width=16, num_experts=2)
    torch.nn.init.normal_(model.attention.action_bias)
    random = np.random.default_rng(seed)
    model.fit_numerics(random.normal(0, 3, (200, len(spec.features))).astype(np.float32))
    rotation = np.linalg.qr(random.normal(size=(encoder.width, encoder.width)))[0].astype(np.float32)
    return TrainedRanker(model.eval(), spec, rotation, SETTINGS, run_id="tiny/ranker", values={"ndcg@10": 0.25})


def ranked_world(seed: int = 0) -> TinyWorld:
    """All inputs of a tiny bundle with a ranker."""
    encoder, catalogue = ActingEncoder(), timed_catalogue()
    return TinyWorld(
        model=tiny_model(encoder),
        catalogue=catalogue,
        fallbacks=count_fallbacks(Popularity(), Markov(), SETTINGS.list_length, catalogue),
        ranker=untrained_ranker(encoder, seed),
    )
