"""Large weights are used where they lie in the file of a graph: the same numbers, without a copy."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from retrank.contract.bundle import QUERY_ENCODER, locate
from retrank.serving.onnx import open_session
from retrank.serving.weights import light_graph


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


def test_a_light_graph_holds_everything_but_the_numbers_of_its_large_weights(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    written = _graph(path, rows=100)
    light, whole = onnx.load_from_string(light_graph(path, min_bytes=1_000)), onnx.load(path)
    external = {tensor.name: tensor for tensor in light.graph.initializer if tensor.external_data}
    assert set(external) == {"table"}
    place = {entry.key: entry.value for entry in external["table"].external_data}
    raw = path.read_bytes()[int(place["offset"]) :][: int(place["length"])]
    assert (place["location"], raw) == ("graph.onnx", written["table"].tobytes())
    onnx.load_external_data_for_model(light, str(tmp_path))
    for tensor in light.graph.initializer:
        tensor.ClearField("data_location")
    assert light == whole


def test_a_graph_without_large_weights_stays_as_it_is(tiny_bundle: Path) -> None:
    path = locate(tiny_bundle) / QUERY_ENCODER
    assert light_graph(path) == path.read_bytes()


@pytest.mark.parametrize("shift", range(4))
def test_a_session_answers_the_same_from_any_place_in_the_file(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "graph.onnx"
    _graph(path, rows=20_000, note="x" * shift)
    asked = {"rows": np.array([0, 7, 19_999])}
    plain = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session = open_session(path)
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
