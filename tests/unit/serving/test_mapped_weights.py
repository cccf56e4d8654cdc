"""Weights are found in the file of a graph and used from there: the same numbers, without a copy."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from retrank.contract.bundle import QUERY_ENCODER, locate
from retrank.serving.onnx import open_session
from retrank.serving.weights import mapped_weights


def _graph(path: Path, rows: int, note: str = "") -> dict[str, np.ndarray]:
    """Write a graph that looks rows up in a table and adds a bias; `note` shifts its bytes."""
    rng = np.random.default_rng(0)
    weights = {"table": rng.random((rows, 8), np.float32), "bias": rng.random(8, np.float32)}
    counts = numpy_helper.from_array(np.arange(rows, dtype=np.int64), "counts")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "rows"], ["found"]), helper.make_node("Add", ["found", "bias"], ["out"])],
        "lookup",
        [helper.make_tensor_value_info("rows", TensorProto.INT64, ["B"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 8])],
        [*(numpy_helper.from_array(array, name) for name, array in weights.items()), counts],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], doc_string=note)
    model.ir_version = 9
    onnx.save(model, path)
    return weights


def test_float_weights_are_found_with_their_names_and_numbers(tmp_path: Path) -> None:
    written = _graph(tmp_path / "graph.onnx", rows=100)
    found = mapped_weights(tmp_path / "graph.onnx", min_bytes=1)
    assert set(found) == set(written)
    for name, array in written.items():
        np.testing.assert_array_equal(found[name], array)
    assert set(mapped_weights(tmp_path / "graph.onnx", min_bytes=1_000)) == {"table"}


def test_they_are_those_that_the_onnx_library_reads_from_a_real_bundle(tiny_bundle: Path) -> None:
    path = locate(tiny_bundle) / QUERY_ENCODER
    wanted = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.raw_data
    }
    found = mapped_weights(path, min_bytes=1)
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("shift", range(4))
def test_a_session_answers_the_same_from_any_place_in_the_file(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "graph.onnx"
    _graph(path, rows=20_000, note="x" * shift)
    asked = {"rows": np.array([0, 7, 19_999])}
    plain = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session = open_session(path)
    assert set(session.mapped_weights) == {"table"}
    np.testing.assert_array_equal(session.run(None, asked)[0], plain.run(None, asked)[0])


def test_a_large_weight_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    _graph(path, rows=2_000_000)  # 64 MB
    before = _anonymous()
    session = open_session(path)
    session.run(None, {"rows": np.array([0, 1_999_999])})
    assert _anonymous() - before < 64e6 / 2


def _anonymous() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")
