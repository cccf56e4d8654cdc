"""A world in which content decides: items of four categories, people who keep to one, a model that knows why."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from ranked_world import ACTIONS_KNOWN, DAY_US, SETTINGS, ActingEncoder, untrained_ranker
from torch import nn
from worlds import TinyEncoder, TinyWorld, tiny_catalogue, tiny_fallbacks, tiny_model

from retrank.contract.sequences import Sequences
from retrank.data.item_content import ItemContent
from retrank.export.item_encoder import NewItems
from retrank.export.run_folder import count_fallbacks
from retrank.export.sources import Catalogue
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.models.content_side import ContentSide
from retrank.models.item_tower import ContentNet

NUM_ITEMS, NUM_CATEGORIES = 50, 4
UNTOUCHED = (47, 48, 49, 50)
"""Rows of items that nobody turned to: one per category, known by their content alone."""


def category(row: int) -> str:
    """Return the category of an item, and of the people u1, u2, ... who keep to it."""
    return f"c{row % NUM_CATEGORIES}"


def content_catalogue(*, timed: bool = False) -> Catalogue:
    """The tiny catalogue with categories; user uN turns only to touched items of the category of N."""
    catalogue = tiny_catalogue()
    kinds = pa.array([category(row) for row in range(1, NUM_ITEMS + 1)])
    own = [np.arange(1, UNTOUCHED[0])[np.arange(1, UNTOUCHED[0]) % NUM_CATEGORIES == place] for place in range(4)]
    rng, offsets = np.random.default_rng(1), catalogue.histories.offsets
    rows = [rng.choice(own[user % NUM_CATEGORIES], offsets[user] - offsets[user - 1]) for user in range(1, 21)]
    histories = Sequences(np.concatenate(rows).astype(np.int32), offsets)
    actions: tuple[str, ...] = ()
    if timed:
        days = np.concatenate([np.sort(rng.integers(0, 40, len(part))) for part in rows])
        kind = rng.integers(0, 3, len(days)).astype(np.int16)
        histories, actions = replace(histories, times=days * DAY_US, actions=kind), ACTIONS_KNOWN
    items = catalogue.items.append_column("category", kinds)
    return replace(catalogue, items=items, histories=histories, actions=actions)


def content_side(items: pa.Table, width: int = 8) -> NewItems:
    """The content half of an item tower in which the category points the way, and words and price nudge."""
    encoding = ItemContent(categories=["category"], numbers=["price"], texts=["title"], num_buckets=64).fit(items)
    touched = np.array([0 < row < UNTOUCHED[0] for row in range(NUM_ITEMS + 1)])
    content = encoding.encode_catalogue(items)._replace(touched=touched)
    torch.manual_seed(3)
    net = ContentNet(content.num_codes, content.num_tokens, width).eval()
    with torch.no_grad():
        for weights in (net.codes.weight, net.tokens.weight):
            weights[1:] = torch.randn_like(weights[1:]) * 0.05
        for place in range(NUM_CATEGORIES):
            net.codes.weight[2 + place, place] += 3.0  # code 1 is the unknown category
        for weights in net.net.parameters():
            weights.mul_(0.1)
    return NewItems(ContentSide(net, unit=True).eval(), encoding, content)


def content_world(*, ranked: bool = False) -> TinyWorld:
    """All inputs of a bundle with an item encoder, and with a ranker if asked for."""
    catalogue = content_catalogue(timed=ranked)
    parts = content_side(catalogue.items)
    encoder = ActingEncoder() if ranked else TinyEncoder()
    inputs = [torch.from_numpy(part.astype(np.int64)) for part in (parts.content.codes, parts.content.tokens)]
    with torch.no_grad():
        vectors = parts.side(*inputs)
        noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0)) * 0.2
        noise[list(UNTOUCHED)] = 0
        encoder.item[1:] = (vectors + noise)[1:]
    fallbacks = tiny_fallbacks(catalogue)
    if ranked:
        fallbacks = count_fallbacks(Popularity(), Markov(), SETTINGS.list_length, catalogue)
    return TinyWorld(
        model=replace(tiny_model(nn.Module.eval(encoder)), new_items=parts),
        catalogue=catalogue,
        fallbacks=fallbacks,
        ranker=untrained_ranker(encoder) if ranked else None,
    )


def described(row: int) -> dict[str, bool | int | float | str | None]:
    """Return the attributes of an item of the catalogue, as a caller would send them."""
    return {"category": category(row), "title": f"Thing number {row}", "price": round(1.5 + row / 4, 2)}
