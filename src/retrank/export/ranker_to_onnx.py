"""A trained ranker as one self-contained ONNX file with any number of requests, candidates and events."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from retrank.contract.errors import BundleError
from retrank.contract.ranker_spec import RANKER_OUTPUT
from retrank.export.folded_ranker import FoldedRanker
from retrank.export.to_onnx import export_graph
from retrank.models.ranker import Ranker, RankerInputs


def export_ranker(ranker: Ranker, path: Path, *, rotation: NDArray[np.float32] | None = None) -> None:
    """Write `ranker.forward` without positions: `RankerInputs` by name -> `head_scores` float32 `[B, C, H]`.

    What is written is `FoldedRanker`, which answers alike for less.

    Args:
        ranker: a trained ranker.
        path: the file.
        rotation: `[D, D]` float32 applied to every vector that comes in; None leaves them.

    Raises:
        BundleError: the bins of its features are not known, the matrix is no rotation, or the graph cannot be exported.
    """
    if not ranker.numerics.fitted:
        raise BundleError("the ranker's features have no bins; call fit_numerics and train it before exporting")
    batch, candidates, length = (torch.export.Dim(name, min=1) for name in ("batch", "candidates", "length"))
    events = {0: batch, 1: length}
    export_graph(
        FoldedRanker(ranker, rotation),
        _examples(ranker)._asdict(),
        path,
        output=RANKER_OUTPUT,
        dynamic_sizes={
            "features": {0: batch, 1: candidates},
            "candidate_vectors": {0: batch, 1: candidates},
            "query": {0: batch},
            "history_vectors": events,
            "history_ages": events,
            "history_actions": events,
        },
    )


def run_ranker(session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Answer `[B, C, H]` float32 for arrays named and shaped as in `RankerInputs`.

    Raises:
        BundleError: ONNX Runtime cannot run the graph on these arrays.
    """
    try:
        read = {node.name for node in session.get_inputs()}  # a graph drops what its ranker does not read
        known = {name: values for name, values in inputs.items() if name in read}
        return cast(NDArray[np.float32], session.run([RANKER_OUTPUT], known)[0])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        shapes = ", ".join(f"{name} {values.shape}" for name, values in inputs.items())
        raise BundleError(f"ONNX Runtime cannot rank {shapes}: {error}") from error


def _examples(ranker: Ranker) -> RankerInputs:
    """Two requests, three candidates, four events: sizes that differ, so that no dimension is taken for another."""
    width = ranker.candidate.in_features
    return RankerInputs(
        features=torch.zeros(2, 3, ranker.numerics.num_features),
        candidate_vectors=torch.ones(2, 3, width),
        query=torch.ones(2, width),
        history_vectors=torch.ones(2, 4, width),
        history_ages=torch.ones(2, 4, dtype=torch.int64),
        history_actions=torch.zeros(2, 4, dtype=torch.int64),
    )
