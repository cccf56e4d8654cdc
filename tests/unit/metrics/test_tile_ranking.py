"""Ranking tile by tile finds the ranks and lists of the key path on the same scores, whatever ties."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.metrics.block_ranking import Pairs
from retrank.metrics.ranking import ranks_of, remove_seen, sort_keys, top_items
from retrank.metrics.tile_ranking import rank_tiles
from retrank.training.item_tiles import ItemTiles, can_pack

WIDTH = 4


@dataclass
class Careless:
    """Tiles that are some steps off when asked for single pairs, as another order of summation would be."""

    tiles: ItemTiles
    steps: int

    @property
    def size(self) -> int:
        return self.tiles.size

    @property
    def width(self) -> int:
        return self.tiles.width

    def finite(self, queries: NDArray[np.float32]) -> bool:
        return self.tiles.finite(queries)

    def scores(self, queries: NDArray[np.float32], tile: int) -> NDArray[np.float32]:
        return self.tiles.scores(queries, tile)

    def pair_scores(self, queries: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
        found = self.tiles.pair_scores(queries, pairs)
        wrong = np.arange(len(found)) % 2 == 0
        for _ in range(self.steps):
            found[wrong] = np.nextafter(found[wrong], np.float32(np.inf))
        return found


def _pairs(random: np.random.Generator, num_cases: int, num_items: int, least: int, most: int) -> Pairs:
    """Between `least` and `most` different items for each case, fewer where there are not so many."""
    sizes = np.minimum(random.integers(least, most + 1, num_cases), num_items)
    items = [random.choice(num_items, size, replace=False) + 1 for size in sizes]
    owners = np.repeat(np.arange(num_cases), sizes)
    return owners, np.concatenate([*items, np.zeros(0, dtype=np.int64)]).astype(np.int64)


def _assert_same(
    tiles: ItemTiles | Careless,
    queries: NDArray[np.float32],
    random: np.random.Generator,
    top_ks: tuple[int, ...] = (10, 100),
    most_targets: int = 1,
    executor: ThreadPoolExecutor | None = None,
) -> None:
    seen = _pairs(random, len(queries), tiles.size - 1, 0, 20)
    targets = _pairs(random, len(queries), tiles.size - 1, 1, most_targets)
    users = random.integers(0, 10**6, len(queries))
    found = rank_tiles(tiles, queries, users, seen=seen, targets=targets, top_ks=top_ks, executor=executor)
    num_tiles = -(-tiles.size // tiles.width)
    keys = sort_keys(np.concatenate([tiles.scores(queries, tile) for tile in range(num_tiles)], axis=1), users)
    remove_seen(keys, seen, targets)
    np.testing.assert_array_equal(found.ranks, ranks_of(keys, targets))
    for top_k, listed in zip(top_ks, found.listed, strict=True):
        best = top_items(keys, top_k)
        np.testing.assert_array_equal(np.sort(listed), np.sort(best[best > 0]))


def _vectors(random: np.random.Generator, count: int, kind: str) -> NDArray[np.float32]:
    """Rows of a kind that makes ranking hard."""
    plain = random.standard_normal((count, WIDTH)).astype(np.float32)
    steps = random.integers(0, 4, (count, WIDTH)).astype(np.float32)
    made: dict[str, NDArray[np.floating]] = {
        "plain": plain,
        "whole numbers": steps - 2,
        "nearly the same": plain[:1] * (1 + steps * np.float32(2**-23)),
        "twins": plain[random.integers(0, max(1, count // 3), count)],
        "mostly zero": np.where(random.random((count, 1)) < 0.7, 0, plain),
        "of all lengths": plain * 10.0 ** random.integers(-25, 15, (count, 1)),
        "in order": plain[np.argsort(plain[:, 0])],
    }
    return np.ascontiguousarray(made[kind], dtype=np.float32)


KINDS = ["plain", "whole numbers", "nearly the same", "twins", "mostly zero", "of all lengths", "in order"]


@given(
    seed=st.integers(0, 10**6),
    num_items=st.integers(1, 400),
    width=st.sampled_from([1, 8, 50, 1000]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    top_ks=st.sampled_from([(1,), (3, 2), (10, 100)]),
    most_targets=st.sampled_from([1, 5, 80]),
    packed=st.booleans(),
)
def test_agrees_with_the_key_path(
    seed: int,
    num_items: int,
    width: int,
    kinds: tuple[str, str],
    top_ks: tuple[int, ...],
    most_targets: int,
    packed: bool,
) -> None:
    random = np.random.default_rng(seed)
    items = torch.from_numpy(_vectors(random, num_items + 1, kinds[0]))
    tiles = ItemTiles(items, width=width, packed=packed)
    _assert_same(tiles, _vectors(random, 6, kinds[1]), random, top_ks, most_targets)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_over_many_cases_and_tiles_in_several_threads(kind: str) -> None:
    random = np.random.default_rng(3)
    tiles = ItemTiles(torch.from_numpy(_vectors(random, 6_001, kind)), width=512)
    with ThreadPoolExecutor(2) as executor:
        _assert_same(tiles, _vectors(random, 300, "plain"), random, most_targets=3, executor=executor)


def test_more_tiles_than_a_byte_counts() -> None:
    random = np.random.default_rng(4)
    tiles = ItemTiles(torch.from_numpy(_vectors(random, 1_201, "plain")), width=2)
    _assert_same(tiles, _vectors(random, 9, "plain"), random)


@given(seed=st.integers(0, 10**6), steps=st.sampled_from([1, 3]), kind=st.sampled_from(KINDS))
def test_a_target_whose_score_comes_out_otherwise_is_ranked_by_that_of_its_tile(
    seed: int, steps: int, kind: str
) -> None:
    random = np.random.default_rng(seed)
    tiles = Careless(ItemTiles(torch.from_numpy(_vectors(random, 200, kind)), width=64), steps)
    _assert_same(tiles, _vectors(random, 12, "plain"), random, most_targets=2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_scores_that_are_no_numbers_are_refused_with_their_case(bad: float) -> None:
    random = np.random.default_rng(5)
    items, queries = (np.abs(_vectors(random, count, "plain")) for count in (100, 300))
    items[7] *= 1e9
    queries[290] = bad
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="in case 290"):
        rank_tiles(
            ItemTiles(torch.from_numpy(items), width=32), queries, np.arange(300),
            seen=nothing, targets=(np.arange(300), np.full(300, 1)), top_ks=(10,),
        )  # fmt: skip


def test_long_vectors_whose_scores_are_finite_all_the_same_are_ranked() -> None:
    random = np.random.default_rng(6)
    items, queries = _vectors(random, 100, "plain"), _vectors(random, 40, "plain") * np.float32(2e37)
    tiles = ItemTiles(torch.from_numpy(items / 8), width=32)
    assert not tiles.finite(queries)
    _assert_same(tiles, queries, random)


def test_the_two_ways_to_multiply_give_nearly_the_same() -> None:
    random = np.random.default_rng(7)
    items, queries = random.standard_normal((300, 64)).astype(np.float32), random.standard_normal((9, 64))
    asked = queries.astype(np.float32)
    fast, plain = (ItemTiles(torch.from_numpy(items), packed=packed).scores(asked, 0) for packed in (True, False))
    np.testing.assert_allclose(fast, plain, atol=1e-5)


def test_the_fast_way_is_there_wherever_torch_has_onednn() -> None:
    assert can_pack() == torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's own signature


def test_a_tie_is_seen_beside_a_target_whose_score_comes_out_otherwise() -> None:
    """In sum they look as if nothing had happened: one score equal to a target's is missing, one is too many."""
    items = np.array([[0], [1], [2], [2], [3]], dtype=np.float32)
    tiles = Careless(ItemTiles(torch.from_numpy(items), width=4), 1)
    nothing, queries = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)), np.ones((2, 1), dtype=np.float32)
    targets = np.arange(2), np.array([1, 2])
    found = [
        rank_tiles(tiles, queries, np.array([0, user]), seen=nothing, targets=targets, top_ks=(1,)).ranks.tolist()
        for user in range(20)
    ]
    assert sorted(set(map(tuple, found))) == [(4, 2), (4, 3)]
