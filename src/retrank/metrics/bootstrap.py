"""Is the difference between two scorers real? A paired bootstrap over users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError

_BLOCK = 1 << 22


@dataclass(frozen=True)
class PairedDifference:
    """Mean of both sides, difference (second - first) with a percentile interval, and a two-sided p-value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    users: NDArray[np.int64],
    *,
    seed: int = 0,
    num_samples: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Resample users with replacement and look at how the difference of the two means varies.

    All cases of a user are drawn together, because they are not independent. Pairing removes what makes a case easy or
    hard for both sides. p = 2 min(P(difference <= 0), P(difference >= 0)) over the samples, each share counted with one
    sample added, at most 1; it can therefore not be below 2 / (num_samples + 1).

    Args:
        first: `[C]` float64 metric per case of the first scorer.
        second: `[C]` float64 metric of the second scorer on the same cases.
        users: `[C]` int64, equal values belong together.
        seed: seeds the resampling.
        num_samples: bootstrap samples, >= 1.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        DataError: the three arrays differ in length or are empty.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).
    """
    if not len(first) == len(second) == len(users) or len(users) == 0:
        raise DataError(
            f"{len(first)}, {len(second)} and {len(users)} cases; a paired bootstrap needs the same, above 0"
        )
    _, group = np.unique(users, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    sums = np.bincount(group, weights=second - first).astype(np.float64)
    samples = _resampled_means(sums, sizes, num_samples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    below, above = np.count_nonzero(samples <= 0), np.count_nonzero(samples >= 0)
    return PairedDifference(
        first=float(first.mean()),
        second=float(second.mean()),
        difference=float(second.mean() - first.mean()),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (min(below, above) + 1) / (num_samples + 1)),
    )


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], num_samples: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Mean difference per case in each bootstrap sample, `[num_samples]`; users are drawn in blocks to bound memory."""
    num_users = len(sums)
    block = max(1, _BLOCK // num_users)
    means = []
    for start in range(0, num_samples, block):
        drawn = generator.integers(num_users, size=(min(block, num_samples - start), num_users))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
