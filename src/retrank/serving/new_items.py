"""Vectors of items that came after the bundle was sealed, from what they are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract import bundle as layout
from retrank.contract.bundle import VerifiedBundle
from retrank.contract.item_content import VECTORS, ItemEncoding, graph_inputs
from retrank.serving.onnx import open_session


class Described(NamedTuple):
    """R items in the words of the model.

    Attributes:
        vectors: `[R, D]` float32.
        readable: `[R]` bool; False = nothing of it is known to the model, the vector is that of any such item.
    """

    vectors: NDArray[np.float32]
    readable: NDArray[np.bool_]


class NewItemEncoder:
    """The item tower of the bundle's model: attributes in, item vectors out."""

    def __init__(self, session: ort.InferenceSession, encoding: ItemEncoding) -> None:
        """Encode as in training.

        Args:
            session: the graph, see `docs/bundle.md`.
            encoding: from attributes to what it reads.
        """
        self._session, self._encoding = session, encoding

    def vectors(self, items: Sequence[Mapping[str, JsonValue]]) -> NDArray[np.float32]:
        """Return the `[R, D]` float32 vectors of R >= 1 items with these attributes; others are ignored.

        They are comparable with queries as the rows of `item_vectors.npy` are. What is missing, of another kind or
        unknown to the model counts as unknown.
        """
        return self.described(items).vectors

    def described(self, items: Sequence[Mapping[str, JsonValue]]) -> Described:
        """Return the same vectors, and which of the R items say anything that the model reads."""
        content = self._encoding.encode_attributes(items)
        found: NDArray[np.float32] = self._session.run([VECTORS], graph_inputs(content))[0]
        return Described(found, self._encoding.says_something(content))


def open_item_encoder(bundle: VerifiedBundle) -> NewItemEncoder | None:
    """Open the item encoder of a bundle whose hashes were checked; None when its model knows items by id alone.

    Raises:
        SourceError: it was written by a version that encodes items in another way.
    """
    if layout.ITEM_ENCODER not in bundle.manifest.files:
        return None
    encoding = ItemEncoding.load(bundle.path(layout.ITEM_ENCODING))
    return NewItemEncoder(open_session(bundle.path(layout.ITEM_ENCODER)), encoding)
