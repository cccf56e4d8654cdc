"""A trained query encoder as one self-contained ONNX file, through the torch dynamo exporter.

Batch and length are dynamic (1..max_length), so a short history costs little to encode. The exported graph is the
model's `forward`, which computes the newest position only; transformers are folded, see `folded_attention`.

Traps found on the way, guarded by `parity.py` which runs every exported file:

- ONNX Runtime 1.32 turns `Range` + `Gather` into `Slice` and gets a descending range wrong: a model must slice its
  position table (`table[-length:]`) and not index it with a descending `arange`.
- torch.export may take a dynamic size to be at least 2; batch 1 and length 1 must be run, not assumed.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from retrank.contract.encode import CONTEXT_ROWS, ModelInputs
from retrank.contract.errors import BundleError
from retrank.contract.features import OUTPUT_NAME
from retrank.export.folded_attention import folded
from retrank.models.protocols import QueryEncoder

OPSET = 20
"""ONNX operator set of the exported graph; ONNX Runtime >= 1.17 reads it."""


def export_encoder(model: QueryEncoder, path: Path, *, num_fields: int = 0) -> None:
    """Write `model.forward` to `path`: its inputs, int64 -> `query` float32 `[batch, width]`.

    The inputs are `[batch, length]` each; of a model that reads it, `context` is `[batch, 1, F]`.

    Args:
        model: the encoder.
        path: the file.
        num_fields: fields F of the context, if the model reads it.

    Raises:
        BundleError: the model cannot be exported, or the file is not self-contained or not valid ONNX.
    """
    shape = (2, model.max_length)
    examples: dict[str, torch.Tensor] = {name: torch.ones(shape, dtype=torch.int64) for name in model.inputs}
    batch = torch.export.Dim("batch", min=1)
    sizes = {0: batch}
    if model.max_length > 1:
        sizes[1] = torch.export.Dim("length", min=1, max=model.max_length)
    dynamic_sizes: dict[str, dict[int, Any]] = dict.fromkeys(model.inputs, sizes)
    if CONTEXT_ROWS in examples:
        examples[CONTEXT_ROWS] = torch.ones((2, 1, num_fields), dtype=torch.int64)
        dynamic_sizes[CONTEXT_ROWS] = {0: batch}
    export_graph(
        folded(model),
        examples,
        path,
        output=OUTPUT_NAME,
        dynamic_sizes=dynamic_sizes,
    )


def export_graph(
    module: torch.nn.Module,
    examples: Mapping[str, torch.Tensor],
    path: Path,
    *,
    output: str,
    dynamic_sizes: Mapping[str, dict[int, Any]],
) -> None:
    """Write `module.forward` in evaluation mode as one self-contained ONNX file.

    Args:
        module: tensors in, one tensor out.
        examples: one tensor per argument, by its name, none an alias of another; the graph has inputs of these names.
        path: the file.
        output: name of the output.
        dynamic_sizes: per argument, `torch.export.Dim` by dimension that may vary.

    Raises:
        BundleError: the module cannot be exported, or the file is not self-contained or not valid ONNX.
    """
    with _quiet(), torch.inference_mode(mode=False), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                kwargs=dict(examples),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(examples),
                output_names=[output],
                dynamic_shapes=dict(dynamic_sizes),
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise BundleError(f"{type(module).__name__} cannot be exported to ONNX: {error}") from error
    if program is None:
        raise BundleError(f"{type(module).__name__}: the ONNX exporter returned no program")
    _write(program.model_proto, path)


def _write(graph: onnx.ModelProto, path: Path) -> None:
    """Check the graph and write it; the same model gives the same bytes on every machine."""
    _forget_origin(graph)
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(f"{path.name}: the exported graph is not valid ONNX: {error}") from error
    external = [tensor.name for tensor in graph.graph.initializer if tensor.external_data]
    if external:
        raise BundleError(f"{path.name}: weights {external} point outside the file; it must be self-contained")
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _forget_origin(graph: onnx.ModelProto) -> None:
    del graph.metadata_props[:]
    graph.doc_string = ""
    inner = graph.graph
    for part in (*inner.node, *inner.input, *inner.output, *inner.value_info, *inner.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del inner.metadata_props[:]


def open_encoder(path: Path) -> ort.InferenceSession:
    """Open an exported encoder with the settings of one serving replica: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # failures are raised; the log would only say them twice
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def run_encoder(session: ort.InferenceSession, inputs: ModelInputs) -> NDArray[np.float32]:
    """Encode `[B, L]` int64 inputs to `[B, D]` float32 queries.

    Raises:
        BundleError: ONNX Runtime cannot run the graph on this input.
    """
    try:
        return cast(NDArray[np.float32], session.run([OUTPUT_NAME], dict(inputs))[0])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        shapes = ", ".join(f"{name} {values.shape}" for name, values in inputs.items())
        raise BundleError(f"ONNX Runtime cannot encode a batch of shape {shapes}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's own notices: torch 2.13 warns about itself (LeafSpec) and about a missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used")  # two inputs share their axes
            yield
    finally:
        logger.setLevel(level)
