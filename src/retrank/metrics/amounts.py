"""Whether expected amounts mean what they say, and whether they order: the metrics of a ranker's value heads."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from retrank.contract.errors import DataError

Floats = NDArray[np.floating]


def relative_error(expected: Floats, amounts: Floats) -> float:
    """Mean absolute error of `[M]` expected amounts, as a share of the mean amount.

    Raises:
        DataError: the sides differ in length, are empty, or an amount is not above 0 or not finite.
    """
    said, happened = _checked(expected, amounts)
    return float(np.abs(said - happened).sum() / happened.sum())


def relative_calibration_error(expected: Floats, amounts: Floats, *, num_bins: int = 10) -> float:
    """Which share of what was paid was said of the wrong group, over bins of about equal size by expectation.

    0 = in each group as much was paid as was expected of it, whatever single amounts were. Equal expectations share a
    bin.

    Args:
        expected: `[M]` > 0.
        amounts: `[M]` > 0.
        num_bins: >= 1.

    Raises:
        DataError: as for `relative_error`.

    Source: deciles as in Wang et al. 2019, ZILN (arXiv 1912.07753). Deviation: bins count by their amounts, so that
    one with hardly any cannot decide.
    """
    said, happened = _checked(expected, amounts)
    _, value, counts = np.unique(said, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(said)
    bins = np.minimum((middle * num_bins).astype(np.int64), num_bins - 1)[value]
    gaps = np.bincount(bins, weights=said - happened, minlength=num_bins)
    return float(np.abs(gaps).sum() / happened.sum())


def rank_correlation(expected: Floats, amounts: Floats) -> float:
    """Spearman's correlation of `[M]` expected amounts with what was paid; NaN where one side is constant.

    Raises:
        DataError: as for `relative_error`.
    """
    said, happened = _checked(expected, amounts)
    if np.ptp(said) == 0 or np.ptp(happened) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(said), rankdata(happened))[0, 1])


def _checked(expected: Floats, amounts: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said, happened = np.asarray(expected, np.float64), np.asarray(amounts, np.float64)
    if said.shape != happened.shape or said.ndim != 1 or len(said) == 0:
        raise DataError(f"expected {said.shape} and paid {happened.shape} amounts; two equal lists are needed")
    if not (np.isfinite(said) & np.isfinite(happened) & (said > 0) & (happened > 0)).all():
        raise DataError("an amount is not above 0 or not finite; leave out what was not paid for")
    return said, happened
