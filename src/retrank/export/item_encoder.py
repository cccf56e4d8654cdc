"""The item tower's content half as an ONNX file: serving encodes items that came after the bundle was sealed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract import bundle
from retrank.contract.errors import BundleError, GateError
from retrank.contract.item_content import CODES, TOKENS, VECTORS, ContentArrays, ItemEncoding, graph_inputs
from retrank.export.to_onnx import export_graph, open_encoder
from retrank.models.content_side import ContentSide

_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class NewItems:
    """What is needed to describe and encode items that training never met.

    Attributes:
        side: codes and tokens in, vectors out.
        encoding: attributes in, codes and tokens out.
        content: of the N items of training, `[N + 1, ...]`; the graph is proven on it.
    """

    side: ContentSide
    encoding: ItemEncoding
    content: ContentArrays


def write_item_encoder(
    new_items: NewItems, item_vectors: NDArray[np.float32], directory: Path, *, tolerance: float
) -> float:
    """Write graph and encoding, and hold the graph against torch, and against the vectors that are served.

    Args:
        new_items: the trained content half.
        item_vectors: `[N + 1, D]` float32 of the bundle.
        directory: of the bundle that is being made.
        tolerance: largest difference of a component, relative to max(1, |component|), > 0.

    Returns:
        The largest difference of a component that was seen.

    Raises:
        BundleError: the graph cannot be exported or run.
        GateError: it does not answer like the trained model.
    """
    path = directory / bundle.ITEM_ENCODER
    export_item_encoder(new_items.side, path)
    seen = _run(path, new_items.content)
    expected = _torch_vectors(new_items.side, new_items.content)
    difference = _difference(seen, expected)
    touched = new_items.content.touched
    untouched = np.zeros(0, dtype=np.int64) if touched is None else 1 + np.flatnonzero(~touched[1:])
    served = _difference(seen[untouched], item_vectors[untouched])
    if not max(difference, served) <= tolerance:
        raise GateError(
            f"the item encoder in ONNX differs by {difference:.2e} from torch over {len(seen) - 1} items, and by "
            f"{served:.2e} from the vectors of {len(untouched)} untouched ones; the gate requires at most "
            f"{tolerance:.0e}: the exported graph is not the trained model"
        )
    new_items.encoding.save(directory / bundle.ITEM_ENCODING)
    return max(difference, served)


def _difference(seen: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float((np.abs(seen - expected) / np.maximum(1, np.abs(expected))).max(initial=0.0))


def export_item_encoder(side: ContentSide, path: Path) -> None:
    """Write `side.forward`: int64 `codes` `[items, F]`, `tokens` `[items, T]` -> float32 `item_vectors` `[items, D]`.

    Raises:
        BundleError: it cannot be exported.
    """
    items, tokens = torch.export.Dim("items", min=1), torch.export.Dim("tokens", min=1)
    examples = {name: torch.ones((2, 3), dtype=torch.int64) for name in (CODES, TOKENS)}
    fields = torch.export.Dim("fields", min=1)
    sizes = {CODES: {0: items, 1: fields}, TOKENS: {0: items, 1: tokens}}
    export_graph(side, examples, path, output=VECTORS, dynamic_sizes=sizes)


def _run(path: Path, content: ContentArrays) -> NDArray[np.float32]:
    session = open_encoder(path)
    try:
        parts = [session.run([VECTORS], inputs)[0] for inputs in _parts(content)]
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise BundleError(f"ONNX Runtime cannot run {path.name}: {error}") from error
    return np.concatenate(parts)


def _torch_vectors(side: ContentSide, content: ContentArrays) -> NDArray[np.float32]:
    side.eval()
    with torch.inference_mode():
        parts = [side(*map(torch.from_numpy, inputs.values())).numpy() for inputs in _parts(content)]
    return np.concatenate(parts)


def _parts(content: ContentArrays) -> list[dict[str, NDArray[np.int64]]]:
    inputs = graph_inputs(content)
    starts = range(0, len(content.codes), _ROWS_AT_ONCE)
    return [{name: values[at : at + _ROWS_AT_ONCE] for name, values in inputs.items()} for at in starts]
