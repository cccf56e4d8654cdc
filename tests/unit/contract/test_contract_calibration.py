"""The curve that serving applies: what it says, how it travels, and what is refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.calibration import Calibration
from retrank.contract.errors import FormatError

CURVE = Calibration(logits=(-2.0, 0.0, 1.0), probabilities=(0.1, 0.2, 0.9))


def test_it_is_linear_between_knots_and_constant_beyond() -> None:
    seen = CURVE.apply(np.array([[-99, -2, -1], [0, 0.5, 99]], np.float32))
    np.testing.assert_allclose(seen, [[0.1, 0.1, 0.15], [0.2, 0.55, 0.9]])
    assert seen.dtype == np.float64


def test_nothing_is_made_of_nothing() -> None:
    assert np.isnan(CURVE.apply(np.array([math.nan]))).all()
    assert CURVE.apply(np.zeros((0, 3))).shape == (0, 3)


finite = st.floats(-1e6, 1e6)


@given(
    st.lists(finite, min_size=2, max_size=20, unique=True),
    st.lists(st.floats(0, 1), min_size=20, max_size=20),
    st.lists(finite, min_size=2, max_size=20),
)
def test_it_travels_as_json_to_the_last_bit_and_never_falls(
    logits: list[float], probabilities: list[float], asked: list[float]
) -> None:
    curve = Calibration.make(np.sort(logits), np.sort(probabilities[: len(logits)]))
    again = Calibration.parse(curve.to_json())
    assert again == curve
    seen = again.apply(np.sort(asked))
    assert (np.diff(seen) >= 0).all()
    assert seen[0] >= 0
    assert seen[-1] <= 1


@pytest.mark.parametrize(
    ("logits", "probabilities", "message"),
    [
        ([0.0, 0.0], [0.1, 0.2], "logit 1 is 0.0, not above"),
        ([1.0, 0.0], [0.1, 0.2], "not above the one before"),
        ([0.0, 1.0], [0.2, 0.1], "probability 1 is 0.1, below"),
        ([0.0, 1.0], [0.2], "at least 2 items"),
        ([0.0, 1.0, 2.0], [0.2, 0.3], "3 logits and 2 probabilities"),
        ([0.0, math.nan], [0.1, 0.2], "finite"),
        ([0.0, math.inf], [0.1, 0.2], "finite"),
        ([0.0, 1.0], [0.1, math.nan], "finite"),
        ([0.0, 1.0], [-0.1, 0.2], "greater than or equal to 0"),
        ([0.0, 1.0], [0.1, 1.1], "less than or equal to 1"),
    ],
)
def test_what_is_no_curve_is_refused(logits: list[float], probabilities: list[float], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Calibration.make(np.array(logits), np.array(probabilities))
    with pytest.raises(FormatError, match="calibration: "):
        Calibration.parse(json.dumps({"logits": logits, "probabilities": probabilities}))


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"logits": ["a"]}', '{"knots": 1}'])
def test_other_documents_are_refused(document: str) -> None:
    with pytest.raises(FormatError, match="calibration: "):
        Calibration.parse(document)
