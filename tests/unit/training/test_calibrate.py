"""Fitting a calibration curve: right on data it has not seen, however much or little there was to fit it on."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from retrank.contract.errors import DataError
from retrank.metrics.calibration import auc, expected_calibration_error
from retrank.training.calibrate import fit_calibration

Floats = NDArray[np.float64]

LAWS: dict[str, tuple[Callable[[Floats], NDArray[np.floating]], float]] = {
    "over-confident": (lambda logits: expit(logits / 3), 0.0),
    "over-confident and rare": (lambda logits: expit(logits / 3 - 2.5), -2.0),
    "too low": (lambda logits: expit(logits + 2), -3.0),
    "no line at all": (lambda logits: 0.1 + 0.6 * expit(4 * logits), 0.0),
    "nothing to know": (lambda logits: np.full(len(logits), 0.2), 0.0),
    "certain": (lambda logits: (logits > 0).astype(np.float64), 0.0),
}


def draw(law: Callable[[Floats], NDArray[np.floating]], middle: float, rows: int, seed: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(middle, 3, rows)
    return logits, (generator.random(rows) < law(logits)).astype(np.float64)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("rows", [5_000, 50_000])
def test_the_error_on_unseen_data_is_small(name: str, rows: int) -> None:
    law, middle = LAWS[name]
    curve = fit_calibration(*draw(law, middle, rows, seed=0))
    logits, labels = draw(law, middle, 100_000, seed=1)
    assert expected_calibration_error(curve.apply(logits), labels) < (0.02 if rows == 5_000 else 0.01)
    assert np.abs(curve.apply(logits) - law(logits)).mean() < 0.03


def test_what_was_over_confident_was_far_off_before() -> None:
    law, middle = LAWS["over-confident"]
    logits, labels = draw(law, middle, 50_000, seed=1)
    assert expected_calibration_error(expit(logits), labels) > 0.1


@pytest.mark.parametrize("name", LAWS)
def test_the_order_of_candidates_is_kept(name: str) -> None:
    law, middle = LAWS[name]
    logits, labels = draw(law, middle, 20_000, seed=0)
    curve = fit_calibration(logits, labels)
    assert np.diff(curve.probabilities).min() >= 0
    probabilities = curve.apply(logits)
    assert len(np.unique(probabilities)) > 0.95 * len(logits) or name == "certain"
    assert auc(probabilities, labels) == pytest.approx(auc(logits, labels), abs=1e-3)


@pytest.mark.parametrize("positives", [0, 1, 10, 30, 150])
def test_few_positives_still_give_the_right_level(positives: int) -> None:
    logits = np.random.default_rng(0).normal(-2, 1, 10_000)
    labels = np.zeros(10_000)
    chosen = np.argsort(-logits - np.random.default_rng(1).gumbel(0, 1, 10_000))[:positives]
    labels[chosen] = 1
    curve = fit_calibration(logits, labels)
    assert curve.apply(logits).mean() == pytest.approx((positives + 1) / 10_000, abs=2e-4)
    assert np.diff(curve.apply(np.sort(logits))).min() >= 0


def test_all_positive_is_as_good_as_none() -> None:
    curve = fit_calibration(np.linspace(-1, 1, 100), np.ones(100))
    assert 0.97 < curve.apply(np.zeros(1))[0] < 1


def test_logits_that_order_wrongly_get_the_base_rate() -> None:
    logits, labels = draw(lambda values: expit(-values), 0.0, 20_000, seed=0)
    assert np.abs(fit_calibration(logits, labels).apply(logits) - 0.5).max() < 0.1


@pytest.mark.parametrize("logits", [[0.0], [1.0, 1.0], [0.0] * 5000, [-1e4, 1e4], [1e-300, 2e-300]])
def test_logits_without_spread_or_with_too_much_give_a_curve(logits: list[float]) -> None:
    labels = np.arange(len(logits)) % 2.0
    seen = fit_calibration(np.array(logits), labels).apply(np.array(logits))
    assert np.isfinite(seen).all()
    if len(logits) == 5000:
        assert seen[0] == pytest.approx(0.5, abs=0.01)


def test_beyond_what_was_seen_the_curve_goes_on() -> None:
    logits, labels = draw(expit, 0.0, 20_000, seed=0)
    curve = fit_calibration(logits, labels)
    beyond = np.array([logits.min() - 5, logits.min(), logits.max(), logits.max() + 5])
    assert (np.diff(curve.apply(beyond)) > 0).all()
    assert np.abs(logit(curve.apply(np.array([-6.0, 6.0]))) - [-6, 6]).max() < 1.2


def test_knots_are_few() -> None:
    logits, labels = draw(expit, 0.0, 200_000, seed=0)
    assert len(fit_calibration(logits, labels).logits) < 400


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [([], [], "non-empty"), ([0.0], [1, 0], "two equal"), ([np.inf], [1], "not finite"), ([0.0], [0.5], "neither 0")],
)
def test_what_cannot_be_fitted_is_refused(logits: list[float], labels: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_calibration(np.array(logits), np.array(labels))
