"""The exported file: one file, any batch, any length, the same answers."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from worlds import TinyEncoder

from retrank.contract.encode import ACTIONS, AGES, CONTEXT_ROWS, ITEM_ROWS, InputName
from retrank.contract.errors import BundleError
from retrank.export.to_onnx import OPSET, export_encoder, open_encoder, run_encoder
from retrank.models.hstu import HSTU
from retrank.models.protocols import QueryEncoder
from retrank.models.sasrec import SASRec

FIELDS = {"place": 3, "weekday": 7}
SHAPES = [(1, 1), (1, 2), (2, 1), (1, 12), (5, 12), (130, 7)]


def small_sasrec(flavour: Literal["gated", "classic"], similarity: Literal["cosine", "dot"]) -> QueryEncoder:
    """Return a small SASRec with weights of a trained size."""
    torch.manual_seed(0)
    model = SASRec(30, max_length=12, width=8, flavour=flavour, similarity=similarity).eval()
    with torch.no_grad():
        model.items.weight.mul_(50)
    return model


def small_hstu(*, time_bias: bool = True, num_actions: int = 0, context: dict[str, int] | None = None) -> QueryEncoder:
    """Return a small HSTU for which time matters, and the moment if it is told."""
    torch.manual_seed(0)
    model = HSTU(30, max_length=12, width=8, time_bias=time_bias, num_actions=num_actions, context=context).eval()
    with torch.no_grad():
        model.items.weight.mul_(50)
        for name, values in model.named_parameters():
            if "by_" in name or "actions" in name:
                values.mul_(50)
            if "context.table" in name:
                values.normal_()
    return model


MODELS: dict[str, Callable[[], QueryEncoder]] = {
    "tiny": lambda: TinyEncoder(30, 12),
    "gated cosine": lambda: small_sasrec("gated", "cosine"),
    "classic dot": lambda: small_sasrec("classic", "dot"),
    "hstu": small_hstu,
    "hstu with actions": lambda: small_hstu(num_actions=3),
    "hstu with actions, without times": lambda: small_hstu(num_actions=3, time_bias=False),
    "hstu with actions, in context": lambda: small_hstu(num_actions=3, context=FIELDS),
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[QueryEncoder, Path]:
    """Return a model and its file."""
    model = MODELS[request.param]()
    path = tmp_path_factory.mktemp("onnx") / "query_encoder.onnx"
    export_encoder(model, path, num_fields=len(FIELDS))
    return model, path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 99])
def test_any_batch_and_length_gives_the_query_of_torch(
    exported: tuple[QueryEncoder, Path], shape: tuple[int, int], padding: int
) -> None:
    model, path = exported
    item_rows = np.random.default_rng(0).integers(1, 31, shape)
    item_rows[0, : min(padding, shape[1])] = 0
    ages = np.random.default_rng(1).integers(0, 10**9, shape) * (item_rows > 0)
    actions = np.random.default_rng(2).integers(0, 4, shape)
    values = {ITEM_ROWS: item_rows, AGES: np.sort(ages)[:, ::-1].copy(), ACTIONS: actions}
    values[CONTEXT_ROWS] = np.random.default_rng(3).integers(0, 4, (shape[0], 1, len(FIELDS)))
    inputs = {name: values[name] for name in model.inputs}
    seen = run_encoder(open_encoder(path), inputs)
    with torch.inference_mode():
        expected = model.forward(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
    assert seen.shape == (shape[0], model.width)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_the_file_is_valid_self_contained_and_knows_nothing_of_this_machine(
    exported: tuple[QueryEncoder, Path],
) -> None:
    _, path = exported
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    for trace in (b".py", str(Path.cwd()).encode(), str(path.parent).encode(), b"torch/"):
        assert trace not in path.read_bytes()


def test_input_and_output_are_named_with_dynamic_sizes(exported: tuple[QueryEncoder, Path]) -> None:
    model, path = exported
    session = open_encoder(path)
    (item_rows, *others), (query,) = session.get_inputs(), session.get_outputs()
    assert (item_rows.name, *(other.name for other in others)) == model.inputs
    shapes = [["batch", 1, len(FIELDS)] if other.name == CONTEXT_ROWS else item_rows.shape for other in others]
    assert [other.shape for other in others] == shapes
    assert (item_rows.name, item_rows.type, item_rows.shape) == ("item_rows", "tensor(int64)", ["batch", "length"])
    assert (query.name, query.type, query.shape) == ("query", "tensor(float)", ["batch", model.width])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    export_encoder(TinyEncoder(), tmp_path / "one.onnx")
    export_encoder(TinyEncoder(), tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_model_that_reads_one_event_can_be_exported(tmp_path: Path) -> None:
    export_encoder(TinyEncoder(30, max_length=1), tmp_path / "m.onnx")
    assert run_encoder(open_encoder(tmp_path / "m.onnx"), {ITEM_ROWS: np.array([[3], [0], [5]])}).shape == (3, 8)


class Branching(TinyEncoder):
    """Decides on values, which no graph can do."""

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Branch on the sum of the rows."""
        return super().forward(item_rows) * (2.0 if item_rows.sum() > 3 else 1.0)


def test_a_model_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Branching cannot be exported to ONNX"):
        export_encoder(Branching(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


class Descending(nn.Module):
    """Attention whose positions are looked up with a descending range: ONNX Runtime 1.32 gets that wrong."""

    num_items, max_length, width = 30, 12, 8
    inputs: tuple[InputName, ...] = (ITEM_ROWS,)

    def __init__(self) -> None:
        super().__init__()
        self.item, self.position = nn.Embedding(31, 8), nn.Embedding(12, 8)

    def encode_all(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Sum up to every position."""
        return torch.stack([self(item_rows[:, : stop + 1]) for stop in range(item_rows.shape[1])], dim=1)

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the item table or rows of it."""
        return self.item.weight if item_rows is None else self.item(item_rows)

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Sum item and position vectors."""
        age = torch.arange(item_rows.shape[1] - 1, -1, -1)
        return F.relu(self.item(item_rows) + self.position(age)).sum(1)


def test_a_graph_that_the_runtime_gets_wrong_never_passes_for_right(tmp_path: Path) -> None:
    """Either the runtime answers like torch (the defect is fixed) or running the file fails: nothing in between."""
    torch.manual_seed(0)
    model = Descending().eval()
    export_encoder(model, tmp_path / "m.onnx")
    item_rows = np.random.default_rng(0).integers(1, 31, (3, 5))
    seen = None
    with contextlib.suppress(BundleError):
        seen = run_encoder(open_encoder(tmp_path / "m.onnx"), {ITEM_ROWS: item_rows})
    if seen is not None:
        with torch.inference_mode():
            np.testing.assert_allclose(seen, model(torch.from_numpy(item_rows)).numpy(), atol=1e-5)


def test_a_batch_the_graph_cannot_take_is_named_by_its_shape(exported: tuple[QueryEncoder, Path]) -> None:
    too_long = np.ones((3, exported[0].max_length + 1), np.int64)
    with pytest.raises(BundleError, match=r"cannot encode a batch of shape item_rows \(3, 13\)"):
        run_encoder(open_encoder(exported[1]), dict.fromkeys(exported[0].inputs, too_long))


def test_a_session_uses_one_thread(exported: tuple[QueryEncoder, Path]) -> None:
    options: ort.SessionOptions = open_encoder(exported[1]).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
