"""The ranker that is exported answers as the one that was trained, whatever parts it has."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ranker_worlds import CLICK, PURCHASE, VALUE, make_inputs, make_ranker

from retrank.contract.errors import BundleError
from retrank.export.folded_ranker import FoldedRanker
from retrank.models.ranker import Ranker, RankerInputs

HEADS = (CLICK, PURCHASE, VALUE)
KINDS: dict[str, dict[str, object]] = {
    "every expert for every task": {"sharing": "mmoe"},
    "experts of their own": {"sharing": "ple"},
    "what was done is not read": {"num_actions": 0},
    "vectors are not read": {"read_vectors": False},
    "one bin": {"num_bins": 1},
    "no crosses": {"num_cross": 0},
}


def spread(ranker: Ranker) -> Ranker:
    """Give every weight a size of its own: parts that start at zero would hide what is left out."""
    with torch.no_grad():
        for place, values in enumerate(ranker.parameters()):
            values.add_(0.2 * torch.randn(values.shape, generator=torch.Generator().manual_seed(place)))
    return ranker.eval()


def awkward(batch: int = 3, candidates: int = 7, length: int = 9) -> RankerInputs:
    """Unknown and infinite features, padding, an empty history, vectors of any length and of none, unknown acts."""
    inputs = make_inputs(batch, candidates, length=length, seed=2)
    inputs.features[0, 0] = torch.nan
    inputs.features[-1, -1, 1], inputs.features[-1, 0, 1] = torch.inf, -torch.inf
    inputs.history_ages[0, : length // 2] = -1
    inputs.history_ages[-1] = -1
    inputs.history_actions[0, ::2] = 0
    inputs.candidate_vectors.mul_(torch.linspace(0, 3, candidates)[:, None])
    inputs.query[0] = 0.0
    return inputs


def turned(inputs: RankerInputs, rotation: NDArray[np.float32]) -> RankerInputs:
    turn = torch.from_numpy(rotation)
    return inputs._replace(
        candidate_vectors=inputs.candidate_vectors @ turn,
        query=inputs.query @ turn,
        history_vectors=inputs.history_vectors @ turn,
    )


def a_rotation(width: int) -> NDArray[np.float32]:
    drawn: NDArray[np.float64] = np.random.default_rng(3).normal(size=(width, width))
    return np.linalg.qr(drawn)[0].astype(np.float32)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", ["as learned", "turned"])
def test_it_answers_as_the_trained_one(kind: str, frame: str) -> None:
    inputs = awkward()
    ranker = spread(make_ranker(make_inputs(50, 4), HEADS, **KINDS[kind]))
    rotation = a_rotation(inputs.query.shape[-1]) if frame == "turned" else None
    expected = ranker(*(inputs if rotation is None else turned(inputs, rotation)))
    np.testing.assert_allclose(FoldedRanker(ranker, rotation)(*inputs), expected, rtol=2e-5, atol=2e-5)


def test_a_matrix_that_changes_lengths_is_refused() -> None:
    ranker = make_ranker(make_inputs(5, 2)).eval()
    with pytest.raises(BundleError, match="changes lengths"):
        FoldedRanker(ranker, 2 * a_rotation(4))
    with pytest.raises(BundleError, match="changes lengths"):
        FoldedRanker(ranker, np.full((4, 4), np.nan, dtype=np.float32))


def test_numbers_far_from_zero_keep_their_bins() -> None:
    """Bins a hundredth wide a million away from zero: scaled before they are subtracted, they would be lost."""
    inputs = make_inputs(50, 4)
    inputs.features[..., 0] = 1e6 + inputs.features[..., 0].round(decimals=0)
    ranker = spread(make_ranker(inputs, HEADS))
    with torch.inference_mode():
        np.testing.assert_allclose(FoldedRanker(ranker)(*inputs), ranker(*inputs), rtol=2e-5, atol=2e-5)
