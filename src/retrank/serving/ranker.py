"""The second stage of an opened bundle: graph, spec and arrays, mapped where possible."""

import math
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from retrank.contract import bundle as layout
from retrank.contract.bundle import VerifiedBundle
from retrank.contract.candidate_features import Asker, Candidates
from retrank.contract.errors import BundleError, FormatError, said_of
from retrank.contract.item_facts import ItemFacts
from retrank.contract.mapped import mapped
from retrank.contract.proposals import Merged
from retrank.contract.ranker_inputs import ranker_arrays
from retrank.contract.ranker_spec import RANKER_OUTPUT, RankerSpec
from retrank.contract.rest import Rest, no_rest
from retrank.serving.new_rows import NewRows, sealed_rows, vectors_of
from retrank.serving.onnx import open_session

_GOLDEN_TOLERANCE = 1e-3
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SecondStage:
    """A ranker and what it reads besides the arrays of retrieval.

    Attributes:
        session, inputs: the graph and the names of what it reads.
        spec: how it is asked.
        facts: what is known of the items.
        neighbour_items, neighbour_weights: `[N + 1, K]` lists of what goes with an item.
        fresh, trending: `[R]` int64 item rows first met lately, and all with events; liked most recently first.
    """

    session: ort.InferenceSession
    inputs: frozenset[str]
    spec: RankerSpec
    facts: ItemFacts
    neighbour_items: NDArray[np.int32]
    neighbour_weights: NDArray[np.float32]
    fresh: NDArray[np.int64]
    trending: NDArray[np.int64]

    def outputs(
        self, merged: Merged, asker: Asker, item_vectors: NDArray[np.float32], new: NewRows | None = None
    ) -> NDArray[np.float32]:
        """Return `[C, H]` float32 outputs of the graph for C candidates of one request."""
        vectors, known = vectors_of(new, item_vectors, merged.rows), self._known(merged.rows, new)
        arrays = ranker_arrays(merged, asker, self.facts, item_vectors, self.spec, Candidates(vectors, known))
        read = {name: values for name, values in arrays._asdict().items() if name in self.inputs}
        found: NDArray[np.float32] = self.session.run([RANKER_OUTPUT], read)[0][0]
        return found

    def _known(self, rows: NDArray[np.int64], new: NewRows | None) -> NDArray[np.float32]:
        """Return the `[C, 4 + K]` facts of candidates; a new item has those of one without events, and its numbers."""
        known: NDArray[np.float32] = self.facts.table[sealed_rows(new, rows)]
        if new is not None and self.facts.numbers:
            for position, place in new.among(rows):
                numbers = [_as_number(new.value(place, name)) for name in self.facts.numbers]
                known[position, -len(numbers) :] = numbers
        return known

    def score(
        self, merged: Merged, asker: Asker, item_vectors: NDArray[np.float32], new: NewRows | None = None
    ) -> NDArray[np.float32]:
        """Return the `[C]` float32 score of C candidates, a product of calibrated probabilities and amounts.

        Args:
            merged: the candidates.
            asker: the request.
            item_vectors: `[N + 1, D]` float32 of the bundle.
            new: items behind the rows of the bundle that may be among the candidates.

        Raises:
            BundleError: a score is no finite number; nothing could be ordered by it, and JSON has no word for it.
        """
        if len(merged.rows) == 0:
            return np.empty(0, dtype=np.float32)
        scores = self.spec.score(self.outputs(merged, asker, item_vectors, new)).astype(np.float32)
        if not np.isfinite(scores).all():
            raise BundleError(
                f"the ranker gives {np.count_nonzero(~np.isfinite(scores))} of {len(scores)} candidates "
                "a score that is no finite number; its files on disk or its features are damaged"
            )
        return scores


def _as_number(value: JsonValue) -> float:
    """Return a number as the facts hold it, NaN = unknown."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
        return math.nan
    return float(value)


def open_ranker(bundle: VerifiedBundle, item_vectors: NDArray[np.float32], rest: Rest = no_rest) -> SecondStage | None:
    """Open the second stage of a verified bundle and prove it with its golden requests; None if it has none.

    `rest` is called between pieces of work.

    Raises:
        FormatError: a file has another shape, or the spec is of another version.
        BundleError: a golden request gets another answer.
    """
    if bundle.manifest.ranker is None:
        return None
    path = bundle.path(layout.RANKER_SPEC)
    try:
        spec = RankerSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(f"{path}: field {where!r}: {said_of(first['msg'])}; export the bundle again") from error
    size = (len(item_vectors), None)
    session = open_session(bundle.path(layout.RANKER))
    stage = SecondStage(
        session=session,
        inputs=frozenset(node.name for node in session.get_inputs()),
        spec=spec,
        facts=ItemFacts(mapped(bundle.path(layout.ITEM_FACTS), np.float32, size), spec.numbers),
        neighbour_items=mapped(bundle.path(layout.NEIGHBOUR_ITEMS), np.int32, size),
        neighbour_weights=mapped(bundle.path(layout.NEIGHBOUR_WEIGHTS), np.float32, size),
        fresh=mapped(bundle.path(layout.FRESH_ITEMS), np.int64),
        trending=mapped(bundle.path(layout.TRENDING_ITEMS), np.int64),
    )
    _check_golden(stage, bundle, item_vectors, rest)
    return stage


def _check_golden(stage: SecondStage, bundle: VerifiedBundle, item_vectors: NDArray[np.float32], rest: Rest) -> None:
    with np.load(bundle.path(layout.RANKER_GOLDEN), allow_pickle=False) as file:
        golden = dict(file)
    for index in range(sum(name.startswith("outputs_") for name in golden)):
        part = {name: golden[f"{name}_{index}"] for name in (*Asker._fields, *Merged._fields, "outputs")}
        asker = Asker(part["history"], part["ages"], part["actions"], part["query"], float(part["now"]))
        found = stage.outputs(Merged(part["rows"], part["ranks"], part["scores"]), asker, item_vectors)
        rest()
        expected = part["outputs"]
        if found.shape != expected.shape or not np.allclose(found, expected, _GOLDEN_TOLERANCE, _GOLDEN_TOLERANCE):
            raise BundleError(
                f"bundle {bundle.bundle_id}: golden ranking {index} gets other scores than it was sealed with; "
                "another ONNX Runtime or another processor computes differently, export the bundle here"
            )
