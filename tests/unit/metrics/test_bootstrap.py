import numpy as np
import pytest

from retrank.contract.errors import DataError
from retrank.metrics.bootstrap import paired_bootstrap

USERS = np.arange(400)


def test_equal_sides_differ_by_nothing() -> None:
    values = np.random.default_rng(0).random(400)
    result = paired_bootstrap(values, values, USERS)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_constant_gain_is_certain_however_noisy_the_cases() -> None:
    values = np.random.default_rng(0).random(400)
    result = paired_bootstrap(values, values + 0.01, USERS)
    assert (result.low, result.difference, result.high) == pytest.approx((0.01, 0.01, 0.01))
    assert result.p_value == pytest.approx(2 / 2001)


def test_the_interval_is_the_one_of_the_normal_theory() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(0, 1, (2, 400))
    result = paired_bootstrap(first, second, USERS, num_samples=8000)
    half = 1.96 * (second - first).std() / np.sqrt(400)
    assert result.high - result.difference == pytest.approx(half, rel=0.1)
    assert result.difference - result.low == pytest.approx(half, rel=0.1)


def test_without_a_difference_p_values_are_uniform() -> None:
    generator = np.random.default_rng(2)
    p_values = []
    for seed in range(200):
        first, second = generator.normal(0, 1, (2, 100))
        p_values.append(paired_bootstrap(first, second, np.arange(100), seed=seed, num_samples=400).p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.11
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.08)


def test_cases_of_one_user_are_drawn_together() -> None:
    generator = np.random.default_rng(3)
    difference = np.repeat(generator.normal(0, 1, 40), 10)  # ten equal cases per user carry no more than one
    together = paired_bootstrap(np.zeros(400), difference, np.repeat(np.arange(40), 10))
    alone = paired_bootstrap(np.zeros(400), difference, USERS)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = np.random.default_rng(4).random((2, 400))
    assert paired_bootstrap(first, second, USERS, seed=7) == paired_bootstrap(first, second, USERS, seed=7)
    assert paired_bootstrap(first, second, USERS, seed=7) != paired_bootstrap(first, second, USERS, seed=8)


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="2, 3 and 3 cases"):
        paired_bootstrap(np.zeros(2), np.zeros(3), np.arange(3))
