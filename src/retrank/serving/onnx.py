"""How graphs are opened for serving: one thread that does not spin, so that replicas do not fight for cores.

Large weights are used where they lie in the file, see `weights`.
"""

from pathlib import Path

import onnxruntime as ort

from retrank.serving.weights import light_graph

_ERRORS_ONLY = 3
_SLOWER_ON_CPU = {"SkipLayerNormFusion"}
"""Joins an addition and a norm into one operator, which ONNX Runtime 1.32 computes in twice the time of the two."""


def open_session(path: Path) -> ort.InferenceSession:
    """Open a graph whose hash was checked."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return ort.InferenceSession(
        light_graph(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_ON_CPU
    )
