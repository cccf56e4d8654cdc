"""Ranks and list members of many cases while scores come tile by tile, each looked at while the cache still holds it.

`block_ranking.py` wants the scores of a case over the whole catalogue, which of many items no cache holds: they go to
memory once and come back three times. Here a tile of some cases and a run of items is made, read and forgotten:

- items above a target are counted in each tile; its own score is computed before the first one;
- a bound on the k-th best score so far grows from tile to tile; what reaches it is kept, and soon that is little.

Cases where that is not enough (scores tie at the end of a list, or a crowd of them; a target's score is not the one
its tile holds) are ranked again by `rank_block` from all their scores. It is the oracle of the rest in the tests.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrank.metrics.block_ranking import Pairs, Ranking, rank_block
from retrank.metrics.ranking import refuse_not_finite, tie_keys

_VALUES_AT_ONCE = 1 << 20  # of scores: four megabytes, which stay in the third-level cache
_FEWEST, _MOST = 32, 256  # cases at once
_TARGETS = 2  # at once, per case
_KEPT = 3  # list lengths of candidates kept per case before the bound is raised
_CROWD = 8  # list lengths of candidates per case that even a raised bound leaves: nearly all of them tie
_FIRST_GROUPS = 4
_ROWS_AT_ONCE = 32
_MOST_ADDED = 255
_LOWEST = np.finfo(np.float32).min


class Tiles(Protocol):
    """Scores of a catalogue of N items, cut into tiles of equal width (the last may be narrower)."""

    @property
    def size(self) -> int:
        """Return N + 1."""
        ...

    @property
    def width(self) -> int:
        """Return the items of a tile; tile t holds item rows from t * width on."""
        ...

    def finite(self, queries: NDArray[np.float32]) -> bool:
        """Return whether it is certain that all scores of the queries are finite."""
        ...

    def scores(self, queries: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        """Return `[B, n]` float32 scores of a tile for `[B, D]` queries, contiguous; the caller may write to them."""
        ...

    def pair_scores(self, queries: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
        """Return `[T]` float32 scores of T pairs of a query and an item row, bit by bit as in the tiles as a rule."""
        ...


def rank_tiles(
    tiles: Tiles,
    queries: NDArray[np.float32],
    users: NDArray[np.int64],
    *,
    seen: Pairs,
    targets: Pairs,
    top_ks: tuple[int, ...],
    executor: Executor | None = None,
) -> Ranking:
    """Rank all items for each case like `rank_block` on the scores of all tiles side by side.

    Args:
        tiles: the catalogue.
        queries: `[B, D]` float32.
        users: `[B]` int64 user positions; they only choose the order of tied items.
        seen: items that a case has seen; left out of the ranking.
        targets: items whose ranks are wanted; never left out.
        top_ks: lengths of lists, each >= 1.
        executor: its threads share the cases; None = the calling thread ranks all.

    Raises:
        DataError: a score is NaN or infinite in the direction of the best.
    """
    run: Callable[..., Iterable[Ranking]] = map if executor is None else executor.map
    batch = _Batch(queries, users, seen, targets)
    height = min(max(_FEWEST, _VALUES_AT_ONCE // tiles.width), _MOST)
    parts = list(run(partial(_rank_part, batch, tiles, top_ks), _parts(len(queries), targets[0], height)))
    listed = [np.concatenate(lists) for lists in zip(*(part.listed for part in parts), strict=True)]
    return Ranking(np.concatenate([part.ranks for part in parts]), listed)


class _Batch(NamedTuple):
    """Cases and what is known of them."""

    queries: NDArray[np.float32]
    users: NDArray[np.int64]
    seen: Pairs
    targets: Pairs

    def between(self, start: int, stop: int) -> "_Batch":
        pairs = []
        for cases, items in (self.seen, self.targets):
            low, high = np.searchsorted(cases, [start, stop])
            pairs.append((cases[low:high] - start, items[low:high]))
        return _Batch(self.queries[start:stop], self.users[start:stop], *pairs)

    def take(self, cases: NDArray[np.int64]) -> "_Batch":
        """Return some of the cases, which are named in ascending order."""
        place = np.full(len(self.queries), -1)
        place[cases] = np.arange(len(cases))
        pairs = []
        for owners, items in (self.seen, self.targets):
            chosen = place[owners] >= 0
            pairs.append((place[owners[chosen]], items[chosen]))
        return _Batch(self.queries[cases], self.users[cases], *pairs)


def _parts(num_cases: int, owners: NDArray[np.integer], height: int) -> Iterator[tuple[int, int]]:
    """Cut the cases into runs of at most `height`, and `_TARGETS` times as many targets if that is not one case."""
    ends = np.searchsorted(owners, np.arange(num_cases), side="right")
    start = before = 0
    while start < num_cases:
        most = int(np.searchsorted(ends, before + _TARGETS * height, side="right"))
        stop = min(start + height, max(start + 1, most), num_cases)
        yield start, stop
        start, before = stop, int(ends[stop - 1])


def _rank_part(batch: _Batch, tiles: Tiles, top_ks: tuple[int, ...], part: tuple[int, int]) -> Ranking:
    """Rank for the cases `part[0]:part[1]`."""
    cases = batch.between(*part)
    if not tiles.finite(cases.queries):
        return _from_rows(cases, tiles, top_ks, np.arange(len(cases.queries)), part[0])
    whole = tiles.scores(cases.queries, 0) if tiles.size <= tiles.width else None
    own = tiles.pair_scores(cases.queries, cases.targets) if whole is None else whole[cases.targets]
    above = _Above(cases, own)
    best = _Best(len(cases.users), top_ks)
    seen, targets = (_by_tile(pairs[1], tiles) for pairs in (cases.seen, cases.targets))
    for tile, (hidden, here) in enumerate(zip(seen, targets, strict=True)):
        scores, first = tiles.scores(cases.queries, tile) if whole is None else whole, tile * tiles.width
        flat, at_target = scores.reshape(-1), _places(cases.targets, here, scores, first)
        kept = flat[at_target]
        flat[_places(cases.seen, hidden, scores, first)] = -np.inf
        flat[at_target] = kept
        if first == 0:
            scores[:, 0] = -np.inf  # no item
        above.add(scores, first, here, kept)
        best.add(scores, first)
    members = best.lists()
    listed = [items for _, items in members]
    ranks, odd = above.ranks(), best.odd
    odd[cases.targets[0][above.odd]] = True
    if odd.any():
        again = np.flatnonzero(odd)
        exact = _from_rows(cases, tiles, top_ks, again, part[0])
        ranks[odd[cases.targets[0]]] = exact.ranks
        listed = [
            np.concatenate([items[~odd[owners]], more])
            for (owners, items), more in zip(members, exact.listed, strict=True)
        ]
    return Ranking(ranks, listed)


def _by_tile(items: NDArray[np.integer], tiles: Tiles) -> list[NDArray[np.int64]]:
    """Return, for each tile, which of the items stand in it."""
    num_tiles = -(-tiles.size // tiles.width)
    tile_of = (items // tiles.width).astype(np.min_scalar_type(num_tiles))  # 16 bits sort ten times faster than 64
    order = np.argsort(tile_of, kind="stable")
    return np.split(order, np.searchsorted(tile_of[order], np.arange(1, num_tiles)))


def _places(pairs: Pairs, chosen: NDArray[np.int64], scores: NDArray[np.float32], first: int) -> NDArray[np.int64]:
    """Return where the chosen pairs stand in the flattened scores of the tile that begins at item row `first`."""
    places: NDArray[np.int64] = np.asarray(pairs[0][chosen], dtype=np.int64) * scores.shape[1]
    places += pairs[1][chosen] - first
    return places


def _from_rows(batch: _Batch, tiles: Tiles, top_ks: tuple[int, ...], cases: NDArray[np.int64], first: int) -> Ranking:
    """Rank for some cases, in ascending order, from all their scores; errors count cases from `first` on."""
    found = []
    for start in range(0, len(cases), _ROWS_AT_ONCE):
        numbers = cases[start : start + _ROWS_AT_ONCE]
        some = batch.take(numbers)
        rows = np.empty((len(numbers), tiles.size), dtype=np.float32)
        for tile, low in enumerate(range(0, tiles.size, tiles.width)):
            rows[:, low : low + tiles.width] = tiles.scores(some.queries, tile)
        for row, number in zip(rows, numbers, strict=True):
            refuse_not_finite(row[None], first + int(number))
        found.append(rank_block(rows, some.users, seen=some.seen, targets=some.targets, top_ks=top_ks))
    listed = [np.concatenate(lists) for lists in zip(*(part.listed for part in found), strict=True)]
    return Ranking(np.concatenate([part.ranks for part in found]), listed)


class _Above:
    """How many items stand above each of T targets.

    Attributes:
        odd: `[T]` targets whose score was not the one their tile holds; their ranks are not known.
    """

    def __init__(self, cases: _Batch, own: NDArray[np.float32]) -> None:
        self._cases, self._items = cases.targets
        self._users, self._own = cases.users[self._cases], own[:, None]
        self._one_each = np.array_equal(self._cases, np.arange(len(cases.users)))
        self._counts = np.zeros((len(own), 0), dtype=np.uint8)
        self._added, self._above = 0, np.zeros(len(own), dtype=np.int64)
        self.odd = np.zeros(len(own), dtype=bool)

    def add(self, scores: NDArray[np.float32], first: int, here: NDArray[np.int64], kept: NDArray[np.float32]) -> None:
        """Count in a `[B, n]` tile that begins at item row `first` and holds the targets `here` with scores `kept`."""
        rows = scores if self._one_each else scores[self._cases]
        greater, reached = rows > self._own, rows >= self._own
        self._count(greater)
        other = kept != self._own[here, 0]
        self.odd[here] |= other
        if other.any() or np.count_nonzero(reached) != np.count_nonzero(greater) + len(here):
            self._break_ties(reached ^ greater, first)

    def _count(self, greater: NDArray[np.bool_]) -> None:
        """Add up column by column, which takes a tenth of the time of counting row by row."""
        width = greater.shape[1]
        if self._counts.shape[1] < width:
            self._counts = np.zeros(greater.shape, dtype=np.uint8)
        counts = self._counts[:, :width]
        np.add(counts, greater.view(np.uint8), out=counts)
        self._added += 1
        if self._added == _MOST_ADDED:
            self._flush()

    def _flush(self) -> None:
        self._above += self._counts.sum(axis=1, dtype=np.uint32)  # twice as fast as in 64 bits
        self._counts[:] = 0
        self._added = 0

    def _break_ties(self, tied: NDArray[np.bool_], first: int) -> None:
        """Count those of the tied items, the target itself among them, that have a greater tie key."""
        places = _set_places(tied)
        rows = places // tied.shape[1]
        items, users = first + places - rows * tied.shape[1], self._users[rows]
        before = tie_keys(users, items) > tie_keys(users, self._items[rows])
        self._above += np.bincount(rows[before], minlength=len(self._above))

    def ranks(self) -> NDArray[np.int32]:
        """Return `[T]` ranks 1..N."""
        self._flush()
        return (1 + self._above).astype(np.int32)


class _Best:
    """The best items so far of each of B cases.

    Attributes:
        odd: `[B]` cases whose lists are not known, since scores tie.
    """

    def __init__(self, num_cases: int, top_ks: tuple[int, ...]) -> None:
        self._top_ks, self._longest = top_ks, max(top_ks)
        self._bound = np.zeros(0, dtype=np.float32)
        nothing = np.zeros(0, dtype=np.int64)
        self._found = [(nothing, nothing, np.zeros(0, dtype=np.float32))]  # cases, item rows, scores
        self._num_found = 0
        self.odd = np.zeros(num_cases, dtype=bool)

    def add(self, scores: NDArray[np.float32], first: int) -> None:
        """Keep what reaches the bounds in a `[B, n]` tile that begins at item row `first`."""
        if len(self._bound) == 0:
            self._bound = _first_bound(scores, self._longest)
        places = _set_places(scores >= self._bound[:, None])
        cases = places // scores.shape[1]
        self._found.append((cases, first + places - cases * scores.shape[1], scores.reshape(-1)[places]))
        self._num_found += len(places)
        if self._num_found > _KEPT * self._longest * len(scores):
            self._raise_bound()

    def _raise_bound(self) -> None:
        """Raise each bound to the k-th best score so far, and forget what no longer reaches it."""
        cases, items, scores = self._merged()
        self._bound = np.maximum(self._bound, _least(cases, scores, len(self.odd), (self._longest,))[0])
        reached = scores >= self._bound[cases]
        crowded = np.bincount(cases[reached], minlength=len(self.odd)) > _CROWD * self._longest
        self.odd |= crowded
        self._bound[crowded] = np.inf
        kept = np.flatnonzero(reached & ~crowded[cases])
        self._found = [(cases[kept], items[kept], scores[kept])]
        self._num_found = len(kept)

    def _merged(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        cases, items, scores = zip(*self._found, strict=True)
        return np.concatenate(cases), np.concatenate(items), np.concatenate(scores)

    def lists(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return the members of all lists, (case, item row), per length; cases where it is not clear become odd."""
        cases, items, scores = self._merged()
        found = []
        for top_k, least in zip(self._top_ks, _least(cases, scores, len(self.odd), self._top_ks), strict=True):
            chosen = np.flatnonzero(scores >= least[cases])
            members = cases[chosen], items[chosen]
            self.odd |= np.bincount(members[0], minlength=len(self.odd)) > top_k
            found.append(members)
        return found


def _first_bound(scores: NDArray[np.float32], top_k: int) -> NDArray[np.float32]:
    """Return what the k best of each row of the first tile reach: the k-th greatest of the maxima of groups."""
    depth = max(1, scores.shape[1] // (_FIRST_GROUPS * top_k))
    groups = scores.shape[1] // depth
    if groups < top_k:
        return np.full(len(scores), _LOWEST)
    maxima = scores[:, : depth * groups].reshape(len(scores), depth, groups).max(axis=1)
    return np.maximum(np.partition(maxima, groups - top_k, axis=1)[:, groups - top_k], _LOWEST)


def _set_places(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where flags are set, as places in the flattened array; fast where few are: eight are passed at a time."""
    flat = flags.reshape(-1)
    if flat.size % 8:
        return np.flatnonzero(flat)
    eights = np.flatnonzero(flat.view(np.uint64) != 0)
    inside = np.flatnonzero(flat.reshape(-1, 8)[eights])
    places: NDArray[np.int64] = eights[inside >> 3] * 8 + (inside & 7)
    return places


def _least(
    cases: NDArray[np.int64], scores: NDArray[np.float32], num_cases: int, top_ks: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """Return, per list length k, the `[B]` k-th greatest score of each case; -inf where there are fewer."""
    bits = (scores + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal 0.0
    keys = np.sort((cases << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF)))  # float order as integer order
    order = (keys & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    ordered = (order ^ ((order >> 31) & 0x7FFFFFFF)).view(np.float32)
    counts = np.bincount(cases, minlength=num_cases)
    ends, enough = np.cumsum(counts), [counts >= top_k for top_k in top_ks]
    found = []
    for top_k, known in zip(top_ks, enough, strict=True):
        least = np.full(num_cases, -np.inf, dtype=np.float32)
        least[known] = ordered[ends[known] - top_k]
        found.append(least)
    return found
