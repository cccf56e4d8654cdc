"""A tiny bundle with a second stage: random weights, real sources, events with times."""

from dataclasses import replace

import numpy as np
import torch
from worlds import TinyEncoder, TinyWorld, tiny_catalogue, tiny_model

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


def timed_catalogue() -> Catalogue:
    """The tiny catalogue with events on forty days; items with high rows appear late."""
    catalogue = tiny_catalogue()
    rows = np.asarray(catalogue.histories.item_rows)
    random = np.random.default_rng(5)
    days = random.integers(0, 40, len(rows)) + rows // 10
    for start, stop in zip(catalogue.histories.offsets, catalogue.histories.offsets[1:], strict=False):
        days[start:stop].sort()
    times = days * DAY_US + random.integers(0, 1_000, len(rows)).cumsum()
    return replace(catalogue, histories=Sequences(rows, catalogue.histories.offsets, times))


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
    model = Ranker(len(spec.features), encoder.width, HEADS, width=16, num_experts=2)
    random = np.random.default_rng(seed)
    model.fit_numerics(random.normal(0, 3, (200, len(spec.features))).astype(np.float32))
    rotation = np.linalg.qr(random.normal(size=(encoder.width, encoder.width)))[0].astype(np.float32)
    return TrainedRanker(model.eval(), spec, rotation, SETTINGS, run_id="tiny/ranker", values={"ndcg@10": 0.25})


def ranked_world(seed: int = 0) -> TinyWorld:
    """All inputs of a tiny bundle with a ranker."""
    encoder, catalogue = TinyEncoder(), timed_catalogue()
    return TinyWorld(
        model=tiny_model(encoder),
        catalogue=catalogue,
        fallbacks=count_fallbacks(Popularity(), Markov(), SETTINGS.list_length, catalogue),
        ranker=untrained_ranker(encoder, seed),
    )
