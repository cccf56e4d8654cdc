"""Does the ONNX file answer like the torch model? Run on real histories (by default 10,000) before sealing a bundle."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from retrank.contract.encode import InputName, ModelInputs, encode
from retrank.contract.sequences import Sequences
from retrank.export.exact import exact_top_k
from retrank.export.to_onnx import run_encoder
from retrank.models.protocols import QueryEncoder

NEAR_TIE = 1e-5
"""Two scores are a near-tie when they differ by at most this, relative to max(1, |score|): about 80 float32 steps."""
_BATCH = 32


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch.

    Attributes:
        rows: histories compared.
        max_difference: largest absolute difference of any query component.
        top_k: length of the compared item lists.
        identical: lists that are equal, item by item.
        near_ties: lists that differ only where the exchanged items are near-ties in torch.
        different: all other lists.
    """

    rows: int
    max_difference: float
    top_k: int
    identical: int
    near_ties: int
    different: int


def encode_in_batches(
    run: Callable[[ModelInputs], NDArray[np.float32]],
    histories: Sequences,
    inputs: tuple[InputName, ...],
    max_length: int,
) -> NDArray[np.float32]:
    """Encode B histories to `[B, D]` float32 queries, similar lengths together so that little padding is computed."""
    order = np.argsort(histories.lengths, kind="stable")
    parts = [run(encode(histories.take(part), inputs, max_length)) for part in _chunks(order)]
    queries = np.empty((len(histories), parts[0].shape[1]), np.float32)
    queries[order] = np.concatenate(parts)
    return queries


def torch_queries(model: QueryEncoder, histories: Sequences) -> NDArray[np.float32]:
    """Encode B histories with torch on one thread: `[B, D]` float32.

    One thread gives the same sums everywhere, and for graphs this small it is no slower than two.
    """
    module = cast(torch.nn.Module, model).eval()

    def run(encoded: ModelInputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values) for name, values in encoded.items()}
            return cast(NDArray[np.float32], module(**tensors).float().numpy())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return encode_in_batches(run, histories, model.inputs, model.max_length)
    finally:
        torch.set_num_threads(threads)


def onnx_queries(
    session: ort.InferenceSession, histories: Sequences, inputs: tuple[InputName, ...], max_length: int
) -> NDArray[np.float32]:
    """Encode B histories with ONNX Runtime: `[B, D]` float32."""
    return encode_in_batches(lambda encoded: run_encoder(session, encoded), histories, inputs, max_length)


def compare(
    expected: NDArray[np.float32], seen: NDArray[np.float32], item_vectors: NDArray[np.float32], top_k: int = 20
) -> Parity:
    """Compare `[B, D]` queries of torch (`expected`) and ONNX Runtime (`seen`), and the item lists they lead to.

    Equal scores are ordered by item row on both sides. Where the lists still differ, they are a near-tie if, place by
    place, the torch scores of the two items differ by no more than `NEAR_TIE`.
    """
    expected_rows, expected_scores = exact_top_k(expected, item_vectors, top_k)
    seen_rows, _ = exact_top_k(seen, item_vectors, top_k)
    same = (expected_rows == seen_rows).all(axis=1)
    scores_of_seen = np.einsum("bd,bkd->bk", expected[~same], item_vectors[seen_rows[~same]])
    gap = np.abs(scores_of_seen - expected_scores[~same])
    near = (gap <= NEAR_TIE * np.maximum(1.0, np.abs(expected_scores[~same]))).all(axis=1)
    return Parity(
        rows=len(expected),
        max_difference=float(np.abs(expected - seen).max()),
        top_k=top_k,
        identical=int(same.sum()),
        near_ties=int(near.sum()),
        different=int((~near).sum()),
    )


def _chunks(order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (order[at : at + _BATCH] for at in range(0, len(order), _BATCH))
