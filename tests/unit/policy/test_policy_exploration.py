"""Exploration: propensities are the frequencies that are seen, seeds repeat, and degenerate settings are harmless."""

from collections import Counter
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import reference_slates as by_the_book
from hypothesis import given
from hypothesis import strategies as st

from retrank.policy.diversity import Caps, Mmr, Plain, Variety
from retrank.policy.exploration import Choice, Epsilon, Greedy, Slate, Softmax, fill, plackett_luce

SCORES = np.array([1.0, 0.4, 0.1, -0.3])
VECTORS = np.array([[1, 0], [1, 0.2], [0, 1], [-1, 1]], dtype=np.float32)
DRAWS = 5_000
LAST = np.array([True, False, False, True])
Draw = Callable[[np.random.Generator], Slate]
POLICIES: dict[str, Draw] = {
    "softmax, step by step": lambda rng: fill(Plain(SCORES), Softmax(0.5), 3, rng),
    "softmax, all at once": lambda rng: plackett_luce(SCORES, 3, 0.5, rng),
    "epsilon": lambda rng: fill(Plain(SCORES), Epsilon(0.3), 3, rng),
    "epsilon with caps": lambda rng: fill(Caps(SCORES, {"b": np.array([1, 1, 2, 2])}, {"b": 1}), Epsilon(0.3), 3, rng),
    "softmax with mmr": lambda rng: fill(Mmr(SCORES, VECTORS, 0.5), Softmax(0.3), 3, rng),
    "softmax, some last": lambda rng: plackett_luce(SCORES, 3, 0.5, rng, LAST),
    "epsilon, some last": lambda rng: fill(Plain(SCORES), Epsilon(0.3), 3, rng, LAST),
    "softmax with mmr, some last": lambda rng: fill(Mmr(SCORES, VECTORS, 0.5), Softmax(0.3), 4, rng, LAST),
}


@pytest.mark.parametrize("draw", POLICIES.values(), ids=POLICIES.keys())
def test_slates_are_drawn_as_often_as_their_propensities_say(draw: Draw) -> None:
    rng = np.random.default_rng(3)
    seen: Counter[tuple[int, ...]] = Counter()
    stated: dict[tuple[int, ...], float] = {}
    for _ in range(DRAWS):
        slate = draw(rng)
        order = tuple(slate.positions.tolist())
        seen[order] += 1
        stated.setdefault(order, float(slate.propensities.prod()))
        assert stated[order] == pytest.approx(float(slate.propensities.prod()))
    for order, chance in stated.items():
        deviation = (chance * (1 - chance) * (DRAWS)) ** 0.5
        assert abs(seen[order] - chance * (DRAWS)) < 5 * deviation + 1, order
    assert sum(stated.values()) <= 1 + 1e-9


def test_both_ways_to_draw_a_softmax_state_the_same_propensities() -> None:
    """Every order of three out of four items, by the textbook formula."""
    weights = np.exp(SCORES / 0.5)
    by_hand = {}
    for order in permutations(range(4), 3):
        left, chances = weights.sum(), []
        for one in order:
            chances.append(weights[one] / left)
            left -= weights[one]
        by_hand[order] = chances
    rng = np.random.default_rng(0)
    for draw in ("softmax, step by step", "softmax, all at once"):
        for _ in range(200):
            slate = POLICIES[draw](rng)
            assert slate.propensities == pytest.approx(by_hand[tuple(slate.positions.tolist())])


def test_both_ways_to_draw_a_softmax_agree_on_what_comes_last() -> None:
    """The last ones are drawn among themselves, once the others are used up: two of either kind, by the textbook."""
    weights = np.exp(SCORES / 0.5)
    rng = np.random.default_rng(0)
    for _ in range(200):
        for slate in (
            fill(Plain(SCORES), Softmax(0.5), 4, rng, LAST),
            plackett_luce(SCORES, 4, 0.5, rng, LAST),
        ):
            first, second, third, fourth = slate.positions.tolist()
            assert ({first, second}, {third, fourth}) == ({1, 2}, {0, 3})
            chances = [weights[first] / weights[1:3].sum(), 1.0, weights[third] / weights[[0, 3]].sum(), 1.0]
            assert slate.propensities == pytest.approx(chances)


@pytest.mark.parametrize("draw", POLICIES.values(), ids=POLICIES.keys())
def test_a_seed_repeats_a_slate(draw: Draw) -> None:
    first, second = (draw(np.random.default_rng(11)) for _ in range(2))
    assert first.positions.tolist() == second.positions.tolist()
    assert first.propensities.tolist() == second.propensities.tolist()


@given(
    scores=st.lists(st.floats(-1e6, 1e6), max_size=20),
    k=st.integers(0, 25),
    temperature=st.floats(1e-6, 1e6),
    seed=st.integers(0, 1_000),
)
def test_every_slate_holds_distinct_items_with_possible_chances(
    scores: list[float], k: int, temperature: float, seed: int
) -> None:
    values = np.array(scores)
    choices: list[Choice] = [Greedy(), Epsilon(0.5), Softmax(temperature)]
    slates = [fill(Plain(values), choice, k, np.random.default_rng(seed)) for choice in choices]
    for slate in [*slates, plackett_luce(values, k, temperature, np.random.default_rng(seed))]:
        assert len(set(slate.positions.tolist())) == len(slate.positions) == min(k, len(values))
        assert ((slate.propensities > 0) & (slate.propensities <= 1)).all()


def test_without_chance_the_order_is_plain_and_certain() -> None:
    for choice in (Greedy(), Epsilon(0.0), Softmax(1e-9)):
        slate = fill(Plain(SCORES), choice, 4, np.random.default_rng(0))
        assert slate.positions.tolist() == [0, 1, 2, 3]
        assert slate.propensities.tolist() == [1.0] * 4


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(0, 40),
    k=st.integers(0, 25),
    strength=st.floats(0, 1),
    chance=st.sampled_from(["greedy", "epsilon", "softmax"]),
    rule=st.sampled_from(["plain", "mmr", "caps"]),
    share_last=st.sampled_from([None, 0.0, 0.3, 1.0]),
)
def test_a_slate_is_the_one_that_working_everything_out_anew_gives(
    seed: int, size: int, k: int, strength: float, chance: str, rule: str, share_last: float | None
) -> None:
    random = np.random.default_rng(seed)
    scores, vectors = random.normal(size=size), random.normal(size=(size, 4)).astype(np.float32)
    groups, most = (
        {"brand": random.integers(0, 3, size), "colour": random.integers(0, 4, size)},
        {"brand": 2, "colour": 3},
    )
    rules: dict[str, tuple[Variety, by_the_book.Worth]] = {
        "plain": (Plain(scores), by_the_book.plain(scores)),
        "mmr": (Mmr(scores, vectors, strength), by_the_book.mmr(scores, vectors, strength)),
        "caps": (Caps(scores, groups, most), by_the_book.caps(scores, groups, most)),
    }
    chances: dict[str, tuple[Choice, by_the_book.Chances]] = {
        "greedy": (Greedy(), by_the_book.greedy),
        "epsilon": (Epsilon(strength), by_the_book.epsilon(strength)),
        "softmax": (Softmax(0.01 + strength), by_the_book.softmax(0.01 + strength)),
    }
    variety, worth = rules[rule]
    choice, probabilities = chances[chance]
    last = None if share_last is None else random.random(size) < share_last
    slate = fill(variety, choice, k, np.random.default_rng(seed), last)
    expected = by_the_book.filled(worth, probabilities, k, np.random.default_rng(seed), last)
    assert slate.positions.tolist() == expected.positions
    assert slate.propensities == pytest.approx(expected.propensities, rel=1e-5)
