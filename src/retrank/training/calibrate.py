"""Fit the curve that turns a head's logits into probabilities, on data the ranker was not trained on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, log_expit, logit

from retrank.contract.calibration import Calibration
from retrank.contract.errors import DataError

Vector = NDArray[np.float64]

_FEW = 20
"""With fewer positives (or negatives) only the level is fitted, with fewer than ten times as many only Platt's line."""
_PER_BIN = 50
_MAX_BINS = 100
_LEAST_SLOPE = 1e-3
_REACH = 12.0
_STEP = 0.25
_TILT = 1e-3


class _Line(NamedTuple):
    """Platt's line: the logit of the probability as a rising line over the ranker's logit."""

    slope: float
    level: float

    def at(self, logits: Vector) -> Vector:
        return self.slope * logits + self.level


def fit_calibration(logits: NDArray[np.floating], labels: NDArray[np.floating]) -> Calibration:
    """Fit a rising curve to `[M]` logits and `[M]` labels (0 or 1) of a slice later than training.

    Enough of both labels: rows are put into bins of equal size (at most 100, with about 50 of the rarer label in each),
    isotonic regression orders their rates, and every level it finds becomes a knot, or two where it is wide. Straight
    lines between knots, and a hint of a slope on wide levels, make the curve rise where isotonic regression alone has
    steps, so that calibration keeps the order of candidates. Beyond the outermost knots the curve goes on along Platt's
    line. Fewer than 200 of one label: Platt's line alone; fewer than 20: its level alone.

    Raises:
        DataError: the sides differ in length, are empty, a logit is not finite, or a label is neither 0 nor 1.

    Sources: Zadrozny, Elkan 2002 (isotonic); Platt 1999, with his smoothed targets.
    """
    scores, happened = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if scores.shape != happened.shape or scores.ndim != 1 or len(scores) == 0:
        raise DataError(f"logits {scores.shape} and labels {happened.shape}; expected two equal, non-empty lists")
    if not np.isfinite(scores).all() or not np.isin(happened, (0, 1)).all():
        raise DataError("a logit is not finite or a label neither 0 nor 1; calibrate a run that did not diverge")
    rarer = int(min(happened.sum(), len(happened) - happened.sum()))
    line = _fit_line(scores, happened, level_only=rarer < _FEW or np.ptp(scores) == 0)
    if rarer < 10 * _FEW:
        return _curve(line, scores[:0], scores[:0], scores)
    at, heights = _isotonic(scores, happened, num_bins=min(_MAX_BINS, rarer // _PER_BIN + 1))
    return _curve(line, at, heights, scores)


def _fit_line(scores: Vector, happened: Vector, *, level_only: bool) -> _Line:
    positives = happened.sum()
    negatives = len(happened) - positives
    targets = np.where(happened > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    steps = (scores - middle) / spread  # well-scaled for the solver

    def loss(line: Vector) -> tuple[float, Vector]:
        said = (spread if level_only else line[1]) * steps + line[0]
        wrong = (expit(said) - targets) / len(said)
        value = -np.mean(targets * log_expit(said) + (1 - targets) * log_expit(-said))
        return float(value), np.array([wrong.sum(), 0.0 if level_only else (wrong * steps).sum()])

    start = np.array([logit((positives + 1) / (len(happened) + 2)), spread])
    level, tilt = minimize(loss, start, jac=True, method="L-BFGS-B").x
    slope = max(_LEAST_SLOPE, 1.0 if level_only else float(tilt) / spread)
    if (
        not level_only and tilt / spread < _LEAST_SLOPE
    ):  # the logits order nothing, or wrongly: the rate is all there is
        level = logit((positives + 1) / (len(happened) + 2))
    return _Line(slope, float(level) - slope * middle)


def _isotonic(scores: Vector, happened: Vector, *, num_bins: int) -> tuple[Vector, Vector]:
    """Return knots on the levels of the isotonic fit: where they are and their height, as a logit; both rise."""
    order = np.argsort(scores, kind="stable")
    bins = np.arange(len(scores)) * num_bins // len(scores)
    _, first = np.unique(scores[order], return_index=True)
    bins = bins[first][np.cumsum(np.isin(np.arange(len(scores)), first)) - 1]  # equal logits share a bin
    _, bins = np.unique(bins, return_inverse=True)
    sizes = np.bincount(bins).astype(np.float64)
    at = np.bincount(bins, weights=scores[order]) / sizes
    rates = (np.bincount(bins, weights=happened[order]) + 0.5) / (sizes + 1)  # never 0 or 1 (Jeffreys' prior)
    fit = isotonic_regression(rates, weights=sizes)
    starts, ends = fit.blocks[:-1], fit.blocks[1:] - 1
    wide = ends > starts  # a level of several bins reaches from the first to the last of them, with a hint of a slope
    knots = np.concatenate([at[starts], at[ends[wide]]])
    heights = logit(fit.x[starts]) - _TILT * wide
    heights = np.concatenate([heights, logit(fit.x[ends[wide]]) + _TILT])
    order = np.argsort(knots)
    return knots[order], np.maximum.accumulate(heights[order])


def _curve(line: _Line, at: Vector, heights: Vector, scores: Vector) -> Calibration:
    """Join knots, whose heights are logits, with Platt's line to both sides of them."""
    first, last = (at[0], at[-1]) if len(at) else (float(scores.mean()), float(scores.mean()))
    below = np.arange(min(scores.min(), first) - _REACH, first - _STEP / 2, _STEP)
    above = np.arange(max(scores.max(), last) + _REACH, last + _STEP / 2, -_STEP)[::-1]
    if not len(at):
        at, heights = np.array([first]), line.at(np.array([first]))
    # The line is shifted to meet the outermost knot, so the curve has no jump there.
    low = line.at(below) + heights[0] - line.at(at[:1])
    high = line.at(above) + heights[-1] - line.at(at[-1:])
    knots = np.concatenate([below, at, above])
    return Calibration.make(knots, np.maximum.accumulate(expit(np.concatenate([low, heights, high]))))
