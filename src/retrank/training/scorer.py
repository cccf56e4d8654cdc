"""A trained query encoder as a `Scorer`: histories in, scores over the catalogue out."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.encode import encode
from retrank.contract.sequences import Sequences
from retrank.models.protocols import QueryEncoder
from retrank.training.item_tiles import ItemTiles


class ModelScorer:
    """Score with the weights the model has at the moment of the call; training mode is put back afterwards.

    Args:
        model: a query encoder that is also a torch module.
        places: events and padding per forward pass, >= 1; histories of similar length go together to save padding, and
            no more than fit the cache of a CPU core.
    """

    def __init__(self, model: QueryEncoder, places: int = 6_400) -> None:
        assert isinstance(model, torch.nn.Module)
        self.model, self._module, self.places = model, model, places

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; column 0 is -inf. An empty history is read as padding alone."""
        queries = torch.from_numpy(self.queries(histories))
        with self._evaluating():
            items = self.model.item_vectors().float()
            scores: NDArray[np.float32] = (queries.to(items.device) @ items.T).cpu().numpy()
        scores[:, 0] = -np.inf
        return scores

    def prepared(self) -> "PreparedScorer":
        """Return a scorer of the present weights that computes item vectors once."""
        with self._evaluating():
            return PreparedScorer(self, self.model.item_vectors().detach().float())

    def queries(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the `[B, D]` float32 query of each history."""
        queries = np.empty((len(histories), self.model.width), dtype=np.float32)
        with self._evaluating():
            for part in self._parts(histories):
                queries[part] = self._encode(histories.take(part)).cpu().numpy()
        return queries

    def item_vectors(self) -> NDArray[np.float32]:
        """Return `[N + 1, D]` float32 item vectors; row 0 is zero."""
        with self._evaluating():
            vectors: NDArray[np.float32] = self.model.item_vectors().detach().float().cpu().numpy()
        return vectors

    def _parts(self, histories: Sequences) -> Iterator[NDArray[np.int64]]:
        """Cut the histories, shortest first, into parts that take about `places` places with their padding."""
        lengths = np.minimum(histories.lengths, self.model.max_length)
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            padded = lengths[order[start:]] * np.arange(1, len(order) - start + 1)
            stop = start + max(1, int(np.searchsorted(padded, self.places, side="right")))
            yield order[start:stop]
            start = stop

    def _encode(self, histories: Sequences) -> torch.Tensor:
        encoded = encode(histories, self.model.inputs, self.model.max_length)
        device = next(self._module.parameters()).device
        inputs = {name: torch.from_numpy(values).to(device) for name, values in encoded.items()}
        return self.model.forward(**inputs).float()

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self._module.training
        self._module.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self._module.train(was_training)


class PreparedScorer:
    """Scores of a model as it was, for many calls; an array it returns is good until the next call.

    Scores go to the same memory each time: the system takes longer to give a fresh one of some dozen megabytes,
    page by page, than a core to compute what goes there. On a CPU NumPy multiplies: on an AMD processor its library
    took seven eighths of the processor time of torch's.

    Args:
        scorer: encodes the histories; its weights must not change meanwhile.
        item_vectors: `[N + 1, D]` float32.

    Attributes:
        tiles: the item vectors for ranking tile by tile on a CPU; None = they are on a GPU.
    """

    def __init__(self, scorer: ModelScorer, item_vectors: torch.Tensor) -> None:
        self._scorer, self._item_vectors = scorer, item_vectors
        self._scores = np.empty((0, len(item_vectors)), dtype=np.float32)
        self.tiles = ItemTiles(item_vectors) if item_vectors.device.type == "cpu" else None

    def queries(self, histories: Sequences) -> NDArray[np.float32]:
        """Return the `[B, D]` float32 query of each history."""
        return self._scorer.queries(histories)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; column 0 is -inf."""
        queries = self.queries(histories)
        if self._item_vectors.device.type != "cpu":
            asked = torch.from_numpy(queries).to(self._item_vectors.device)
            found: NDArray[np.float32] = (asked @ self._item_vectors.T).cpu().numpy()
        else:
            if len(self._scores) < len(queries):
                self._scores = np.empty((len(queries), len(self._item_vectors)), dtype=np.float32)
            found = np.matmul(queries, self._item_vectors.numpy().T, out=self._scores[: len(queries)])
        found[:, 0] = -np.inf
        return found
