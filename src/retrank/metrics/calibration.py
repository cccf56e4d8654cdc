"""Whether probabilities mean what they say, and whether they order: the metrics of a ranker's binary heads."""

import math

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError

Floats = NDArray[np.floating]
_SMALLEST = 1e-12


def expected_calibration_error(probabilities: Floats, labels: Floats, *, num_bins: int = 15) -> float:
    """Mean distance between what was said and what happened, over bins of about equal size, weighted by size.

    Equal probabilities always share a bin, so the figure does not depend on the order of the rows.

    Args:
        probabilities: `[M]`, 0..1.
        labels: `[M]`, 0 or 1.
        num_bins: >= 1.

    Returns:
        0..1, 0 = perfectly calibrated.

    Raises:
        DataError: the sides differ in length, are empty, or hold something else than probabilities and labels.

    Source: Naeini et al. 2015 (AAAI); equal-mass bins as in Nixon et al. 2019 (arXiv 1904.01685).
    """
    said, happened = _checked(probabilities, labels)
    _, value, counts = np.unique(said, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(said)  # share of rows up to the middle of each distinct value
    bins = np.minimum((middle * num_bins).astype(np.int64), num_bins - 1)[value]
    gaps = np.bincount(bins, weights=said - happened, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(said))


def log_loss(probabilities: Floats, labels: Floats) -> float:
    """Mean negative log-likelihood in nats of `[M]` labels; probabilities are kept 1e-12 away from 0 and 1.

    Raises:
        DataError: as for `expected_calibration_error`.
    """
    said, happened = _checked(probabilities, labels)
    said = np.clip(said, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(happened * np.log(said) + (1 - happened) * np.log1p(-said)))


def normalised_entropy(probabilities: Floats, labels: Floats) -> float:
    """Log-loss divided by that of always saying the base rate: below 1 is better than knowing nothing.

    NaN if all labels are equal.

    Raises:
        DataError: as for `expected_calibration_error`.

    Source: He et al. 2014 (ADKDD).
    """
    rate = float(np.mean(labels)) if len(labels) else math.nan
    loss = log_loss(probabilities, labels)
    if rate in (0.0, 1.0):
        return math.nan
    return loss / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def auc(scores: Floats, labels: Floats) -> float:
    """Chance that a positive of `[M]` is scored above a negative, ties counting half; NaN if one kind is missing.

    Raises:
        DataError: the sides differ in length, are empty, a score is NaN, or a label is not 0 or 1.
    """
    return grouped_auc(scores, labels, np.zeros(len(scores), np.int64))


def grouped_auc(scores: Floats, labels: Floats, groups: NDArray[np.integer]) -> float:
    """AUC inside each group (such as a request or a user), averaged by the size of the group.

    Groups with one kind of label say nothing and are left out; NaN if that leaves none.

    Args:
        scores: `[M]`, higher is better.
        labels: `[M]`, 0 or 1.
        groups: `[M]` int; equal numbers belong together.

    Raises:
        DataError: as for `auc`.

    Source: Zhu et al. 2017 (KDD), weighted by impressions.
    """
    scores, happened = _same_length(scores, labels)
    if len(groups) != len(scores):
        raise DataError(f"{len(scores)} scores and {len(groups)} groups; expected one group for each score")
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    order = np.lexsort((scores, group))
    ranks = np.empty(len(scores))
    ranks[order] = _ranks_with_ties(scores[order], group[order])
    starts = np.cumsum(sizes) - sizes
    positives = np.bincount(group, weights=happened)
    negatives = sizes - positives
    above = np.bincount(group, weights=(ranks - starts[group]) * happened) - positives * (positives + 1) / 2
    counted = (positives > 0) & (negatives > 0)
    if not counted.any():
        return math.nan
    per_group = above[counted] / (positives * negatives)[counted]
    return float(np.average(per_group, weights=sizes[counted]))


def _ranks_with_ties(scores: Floats, group: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return places 1.. of rows sorted by group and score; rows that tie share the mean of their places."""
    fresh = np.concatenate([[True], (np.diff(scores) != 0) | (np.diff(group) != 0)])
    tie, first = np.cumsum(fresh) - 1, np.flatnonzero(fresh)
    last = np.append(first[1:], len(scores))
    return np.asarray(((first + 1 + last) / 2)[tie], np.float64)


def _checked(probabilities: Floats, labels: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said, happened = _same_length(probabilities, labels)
    if said.min() < 0 or said.max() > 1:
        raise DataError(
            f"probabilities lie in {said.min():.4g}..{said.max():.4g}, expected 0..1; calibrate logits first"
        )
    return said, happened


def _same_length(scores: Floats, labels: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said, happened = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    if said.shape != happened.shape or said.ndim != 1 or len(said) == 0:
        raise DataError(f"scores of shape {said.shape} and labels of shape {happened.shape}; expected two equal lists")
    if np.isnan(said).any() or not np.isin(happened, (0, 1)).all():
        raise DataError("a score is NaN or a label neither 0 nor 1; leave such rows out")
    return said, happened
