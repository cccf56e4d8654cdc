"""A made-up world of the shape of ml-1m, so that anyone can run the benchmark: lengths, popularity and order alike.

Lengths are log-normal with the median and mean of ml-1m; items are Zipf-distributed; with some probability the next
item is one of the few successors of the present one, which gives sequence models something to learn. Nobody meets an
item twice, as in ml-1m.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences

MEDIAN_LENGTH, MEAN_LENGTH, SHORTEST = 93, 163, 16
NUM_SUCCESSORS = 24
FOLLOWS = 0.75
_ATTEMPTS = 4


@dataclass(frozen=True)
class World:
    """Histories and the number of items."""

    histories: Sequences
    num_items: int


def ml1m_like(num_users: int = 6_040, num_items: int = 3_416, seed: int = 1) -> World:
    """Make histories with the length law of ml-1m; at most a third of the items in each."""
    random = np.random.default_rng(seed)
    deviation = np.sqrt(2 * np.log(MEAN_LENGTH / MEDIAN_LENGTH))
    lengths = np.round(MEDIAN_LENGTH * np.exp(deviation * random.standard_normal(num_users))).astype(np.int64)
    lengths = -np.sort(-np.clip(lengths, min(SHORTEST, num_items // 3), num_items // 3))
    popularity = 1.0 / (np.arange(num_items) + 20.0) ** 0.9
    draw = _Drawer(np.cumsum(popularity) / popularity.sum())
    successors = draw(random, (num_items, NUM_SUCCESSORS))
    met = np.zeros((num_users, num_items), dtype=bool)
    columns = np.zeros((num_users, lengths[0]), dtype=np.int32)
    current = draw(random, (num_users,))
    for step in range(lengths[0]):
        active = int(np.count_nonzero(lengths > step))  # lengths fall, so the active users come first
        users = np.arange(active)
        chosen = _next(random, draw, successors, current[:active], met[:active])
        met[users, chosen] = True
        columns[:active, step], current[:active] = chosen + 1, chosen
    order = random.permutation(num_users)
    rows = columns[order][np.arange(columns.shape[1]) < lengths[order, None]]
    return World(Sequences(rows, np.r_[0, np.cumsum(lengths[order])]), num_items)


@dataclass(frozen=True)
class _Drawer:
    """Draws items by popularity."""

    cumulative: NDArray[np.float64]

    def __call__(self, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.searchsorted(self.cumulative, random.random(shape))
        return np.minimum(found, len(self.cumulative) - 1)


def _next(
    random: np.random.Generator,
    draw: _Drawer,
    successors: NDArray[np.int64],
    current: NDArray[np.int64],
    met: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Choose an item nobody met before: a successor or a popular one, else any that is left."""
    users = np.arange(len(current))
    chosen = np.full(len(current), -1)
    for _ in range(_ATTEMPTS):
        open_ = np.flatnonzero(chosen < 0)
        follows = random.random(len(open_)) < FOLLOWS
        place = np.minimum((NUM_SUCCESSORS * random.random(len(open_)) ** 2).astype(int), NUM_SUCCESSORS - 1)
        drawn = np.where(follows, successors[current[open_], place], draw(random, (len(open_),)))
        chosen[open_] = np.where(met[users[open_], drawn], -1, drawn)
    for user in np.flatnonzero(chosen < 0):
        chosen[user] = random.choice(np.flatnonzero(~met[user]))
    return chosen
