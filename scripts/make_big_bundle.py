"""Seal a large bundle without training: made-up items, users and a model that was never fitted. For benchmarks.

    python scripts/make_big_bundle.py --items 200000 --out bundles/big
    python scripts/make_big_bundle.py --items 1000000 --users 200000 --out bundles/million
    python scripts/make_big_bundle.py --items 200000 --out bundles/big --prefix b --seed 1   # a disjoint catalogue
    python scripts/make_big_bundle.py --items 1000000 --out bundles/big --transformer --ranker   # at full cost

It is sealed by the export's own code and passes its gates, so serving treats it like any other. Items lie around
centres on the unit sphere and users stay near a few of them, so index and cache see realistic neighbourhoods; what the
model recommends means nothing. Equal arguments give an equal bundle but for the time and the measured latencies.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from retrank.contract.bundle import VerifiedBundle
from retrank.contract.heads import Head
from retrank.contract.manifest import DataFacts, MetricFacts
from retrank.contract.moments import HOUR_US
from retrank.contract.ranker_spec import HeadSpec, RankerSpec
from retrank.contract.sequences import Sequences
from retrank.export.assemble import assemble
from retrank.export.gates import Gates
from retrank.export.index import Family, Flat, IndexPlan, IvfPq
from retrank.export.ranker import TrainedRanker
from retrank.export.run_folder import count_fallbacks
from retrank.export.sources import Catalogue, Circumstances, Fallbacks, TrainedModel
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.models.pooling import PooledHistory
from retrank.models.ranker import Ranker
from retrank.models.sasrec import SASRec
from retrank.training.ranking.sources import SourceSettings

_ITEMS_PER_CENTRE = 100
_CENTRES_PER_USER = 3
_EXACT_UP_TO = 100_000
_NOISE = 0.5
_NEWEST_US = 1_700_000_000_000_000
_WORDS = ("Amber", "Birch", "Copper", "Dusk", "Ember", "Fern", "Granite", "Hazel", "Indigo", "Juniper")


class Sizes(NamedTuple):
    """How large a world is."""

    items: int
    users: int
    width: int = 64
    history: int = 50
    successors: int = 20


class Kind(NamedTuple):
    """What answers: a transformer or a mean of the history, with a ranker behind it or not."""

    transformer: bool = False
    ranker: bool = False


class World(NamedTuple):
    """Item vectors `[N + 1, D]`, the centre `[N]` of each item, and histories."""

    vectors: NDArray[np.float32]
    centres: NDArray[np.int64]
    histories: Sequences


def make_world(sizes: Sizes, seed: int) -> World:
    """Draw items around centres, and users who stay near a few of them."""
    rng = np.random.default_rng(seed)
    num_centres = max(1, sizes.items // _ITEMS_PER_CENTRE)
    centres = np.sort(rng.integers(0, num_centres, sizes.items))
    middle = rng.standard_normal((num_centres, sizes.width), dtype=np.float32)
    vectors = np.zeros((sizes.items + 1, sizes.width), dtype=np.float32)
    vectors[1:] = middle[centres] + _NOISE * rng.standard_normal((sizes.items, sizes.width), dtype=np.float32)
    vectors[1:] /= np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    near = rng.integers(1, sizes.items + 1, (sizes.users, _CENTRES_PER_USER))
    chosen = near[np.arange(sizes.users)[:, None], rng.integers(0, _CENTRES_PER_USER, (sizes.users, sizes.history))]
    drift = rng.integers(-_ITEMS_PER_CENTRE // 2, _ITEMS_PER_CENTRE // 2 + 1, chosen.shape)
    rows = np.clip(chosen + drift, 1, sizes.items).astype(np.int32).ravel()
    offsets = np.arange(sizes.users + 1, dtype=np.int64) * sizes.history
    age = np.arange(sizes.history, 0, -1, dtype=np.int64) * HOUR_US
    return World(vectors, centres, Sequences(rows, offsets, np.tile(_NEWEST_US - age, sizes.users)))


def catalogue(world: World, sizes: Sizes, prefix: str, seed: int) -> Catalogue:
    """Describe items and users."""
    rng = np.random.default_rng(seed + 1)
    rows = range(1, sizes.items + 1)
    items = pa.table(
        {
            "item_id": [f"{prefix}{row:07d}" for row in rows],
            "title": [f"{_WORDS[row % 10]} {_WORDS[row // 10 % 10]} number {row}" for row in rows],
            "price": rng.uniform(1, 100, sizes.items).round(2),
            "brand": [f"brand {centre % 500}" for centre in world.centres.tolist()],
        }
    )
    facts = DataFacts(
        name="made up",
        data_hash=f"{seed:016x}",
        num_users=sizes.users,
        num_items=sizes.items,
        num_events=len(world.histories.item_rows),
    )
    return Catalogue(items, [f"u{user:07d}" for user in range(1, sizes.users + 1)], world.histories, facts)


def fallbacks(world: World, sizes: Sizes, seed: int) -> Fallbacks:
    """Count popularity, and let items near in the catalogue follow one another."""
    rng = np.random.default_rng(seed + 2)
    popularity = np.bincount(world.histories.item_rows, minlength=sizes.items + 1).astype(np.float32)
    rows = np.arange(sizes.items + 1)[:, None]
    step = rng.integers(1, _ITEMS_PER_CENTRE, (sizes.items + 1, sizes.successors))
    followers = ((rows + step) % sizes.items + 1).astype(np.int32)
    weights = np.sort(rng.random(followers.shape, dtype=np.float32), axis=1)[:, ::-1]
    return Fallbacks(popularity, followers, np.ascontiguousarray(weights))


def untrained_ranker(width: int, seed: int) -> TrainedRanker:
    """Return a ranker of the usual size with random weights: it costs what a trained one costs.

    Of every request about 200 candidates reach it, as many as its sources may propose together.
    """
    sources = SourceSettings(
        limits={"sequence": 120, "covisit": 40, "popular": 20, "fresh": 20},
        covisit_window=10,
        list_length=20,
        half_life_days=7.0,
        fresh_days=30.0,
        numbers=("price",),
    )
    heads = (Head("purchase", "binary"), Head("value", "value", given="purchase"))
    spec = RankerSpec(
        limits=dict(sources.limits),  # type: ignore[arg-type]  # names are sources
        covisit_window=sources.covisit_window,
        fresh_days=sources.fresh_days,
        history_length=50,
        numbers=sources.numbers,
        heads=tuple(HeadSpec(**vars(head), weight=1.0) for head in heads),
    )
    model = Ranker(len(spec.features), width, heads)
    rng = np.random.default_rng(seed + 3)
    model.fit_numerics(rng.normal(0, 3, (1_000, len(spec.features))).astype(np.float32))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    return TrainedRanker(model.eval(), spec, rotation, sources, run_id="made-up/ranker", values={"ndcg@10": 0.0})


def make_bundle(
    root: Path, sizes: Sizes, kind: Kind, *, prefix: str, seed: int, recall_target: float, family: Family | None
) -> VerifiedBundle:
    """Seal a bundle below `root` and make it the current one there."""
    world = make_world(sizes, seed)
    shop = catalogue(world, sizes, prefix, seed)
    torch.manual_seed(seed)
    model = SASRec if kind.transformer else PooledHistory
    encoder = model(sizes.items, max_length=sizes.history, width=sizes.width)
    encoder.start_from(torch.from_numpy(world.vectors))
    return assemble(
        TrainedModel(
            encoder=encoder.eval(),
            similarity="cosine",
            name=f"{type(encoder).__name__}, never trained",
            run_id=f"made-up/{prefix}{seed}",
            metrics=MetricFacts(protocol="none: nothing was trained", values={"ndcg@10": 0.0}),
        ),
        shop,
        count_fallbacks(Popularity(), Markov(), sizes.successors, shop)
        if kind.ranker
        else fallbacks(world, sizes, seed),
        root,
        plan=IndexPlan(recall_target, family=family),
        gates=Gates(parity_rows=500),
        circumstances=Circumstances(seed=seed, say=lambda line: print(line, flush=True)),
        ranker=untrained_ranker(sizes.width, seed) if kind.ranker else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--history", type=int, default=50, help="events per user, and longest the model reads")
    parser.add_argument("--prefix", default="a", help="starts every item id")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recall-target", type=float, default=0.95)
    parser.add_argument(
        "--flat", action="store_true", help="exact index whatever the size: quick to build, slow to ask"
    )
    parser.add_argument("--transformer", action="store_true", help="two attention blocks instead of a mean")
    parser.add_argument("--ranker", action="store_true", help="a second stage with random weights")
    parser.add_argument("--out", type=Path, required=True, help="root of the bundles")
    asked = parser.parse_args()
    sizes = Sizes(asked.items, asked.users, asked.width, asked.history)
    lists = 1 << max(4, round(np.log2(4 * np.sqrt(asked.items))))
    large = IvfPq(lists) if asked.items > _EXACT_UP_TO else None
    made = make_bundle(
        asked.out,
        sizes,
        Kind(asked.transformer, asked.ranker),
        prefix=asked.prefix,
        seed=asked.seed,
        recall_target=asked.recall_target,
        family=Flat() if asked.flat else large,
    )
    total = sum(sealed.size for sealed in made.manifest.files.values())
    print(f"{made.directory}: {total / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
