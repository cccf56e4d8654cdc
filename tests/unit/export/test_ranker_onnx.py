"""The exported ranker: one file, any number of requests, candidates and events, the same answers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from ranker_worlds import CLICK, PURCHASE, VALUE, make_inputs, make_ranker

from retrank.contract.errors import BundleError
from retrank.contract.ranker_spec import RANKER_OUTPUT
from retrank.export.ranker_to_onnx import export_ranker, run_ranker
from retrank.export.to_onnx import OPSET, open_encoder
from retrank.models.ranker import Ranker, RankerInputs

SHAPES = [(1, 1, 1), (1, 200, 50), (2, 1, 4), (3, 5, 1), (5, 7, 9)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranker, Path]:
    """Return a ranker with weights of a trained size, and its file."""
    ranker = make_ranker(make_inputs(50, 4), (CLICK, PURCHASE, VALUE), sharing="ple")
    with torch.no_grad():
        for values in ranker.parameters():
            values.add_(0.2 * torch.randn(values.shape, generator=torch.Generator().manual_seed(5)))
    path = tmp_path_factory.mktemp("onnx") / "ranker.onnx"
    export_ranker(ranker, path)
    return ranker.eval(), path


def arrays(inputs: RankerInputs) -> dict[str, NDArray[Any]]:
    return {name: part.numpy() for name, part in inputs._asdict().items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_gives_the_answers_of_torch(exported: tuple[Ranker, Path], shape: tuple[int, int, int]) -> None:
    ranker, path = exported
    batch, candidates, length = shape
    inputs = make_inputs(batch, candidates, length=length, seed=2)
    inputs.features[0, 0, 0] = torch.nan
    inputs.features[-1, -1, 1] = torch.inf
    inputs.history_ages[0, : length // 2] = -1
    inputs.history_actions[0, 0] = 0
    seen = run_ranker(open_encoder(path), arrays(inputs))
    assert seen.shape == (batch, candidates, 3)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, ranker(*inputs).detach().numpy(), atol=1e-4, rtol=1e-5)


def test_ages_on_the_edge_of_a_bucket_and_an_empty_history_answer_alike(exported: tuple[Ranker, Path]) -> None:
    ranker, path = exported
    ages = torch.tensor([[0, 1, 2**10 - 1, 2**10, 2**40], [-1, -1, -1, -1, -1]])
    inputs = make_inputs(2, 3, length=5)._replace(history_ages=ages)
    np.testing.assert_allclose(
        run_ranker(open_encoder(path), arrays(inputs)), ranker(*inputs).detach().numpy(), atol=1e-4, rtol=1e-5
    )


def test_the_file_is_valid_and_names_what_it_reads(exported: tuple[Ranker, Path]) -> None:
    graph = onnx.load(exported[1])
    onnx.checker.check_model(graph, full_check=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    session = open_encoder(exported[1])
    assert {put.name: put.shape for put in session.get_inputs()} == {
        "features": ["batch", "candidates", 2],
        "candidate_vectors": ["batch", "candidates", 4],
        "query": ["batch", 4],
        "history_vectors": ["batch", "length", 4],
        "history_ages": ["batch", "length"],
        "history_actions": ["batch", "length"],
    }
    (answer,) = session.get_outputs()
    assert (answer.name, answer.shape) == (RANKER_OUTPUT, ["batch", "candidates", 3])


def test_the_bias_of_positions_is_left_at_home(exported: tuple[Ranker, Path]) -> None:
    names = [tensor.name for tensor in onnx.load(exported[1]).graph.initializer]
    assert any("towers" in name for name in names)
    assert not any("position" in name for name in names)


def test_arrays_that_do_not_fit_are_named_by_their_shape(exported: tuple[Ranker, Path]) -> None:
    inputs = arrays(make_inputs(1, 3)) | {"query": np.zeros((1, 9), np.float32)}
    with pytest.raises(BundleError, match=r"cannot rank .*query \(1, 9\)"):
        run_ranker(open_encoder(exported[1]), inputs)


def test_a_ranker_without_bins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="call fit_numerics"):
        export_ranker(Ranker(2, 4, (CLICK,)), tmp_path / "ranker.onnx")
    assert list(tmp_path.iterdir()) == []
