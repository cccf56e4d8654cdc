"""The second stage of a bundle: graph, spec and arrays, and the proof that they answer like the trained ranker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract import bundle
from retrank.contract.candidate_features import Asker
from retrank.contract.errors import BundleError, GateError
from retrank.contract.manifest import RankerFacts
from retrank.contract.moments import HOUR_US
from retrank.contract.proposals import Merged
from retrank.contract.ranker_inputs import RankerArrays, ranker_arrays
from retrank.contract.ranker_spec import RankerSpec
from retrank.contract.sequences import Sequences
from retrank.export.ranker_to_onnx import export_ranker, run_ranker
from retrank.export.sources import Catalogue, Fallbacks
from retrank.export.to_onnx import open_encoder
from retrank.models.protocols import QueryEncoder
from retrank.models.ranker import Ranker
from retrank.training.ranking.sources import Sources, SourceSettings, item_numbers
from retrank.training.scorer import ModelScorer

_PROVEN, _GOLDEN = 200, 3


@dataclass(frozen=True)
class TrainedRanker:
    """A ranker with its best weights.

    Attributes:
        model: in eval mode.
        spec: how it is asked, calibrated.
        rotation: `[D, D]` float32 from the vectors of the retriever to those it has learned from.
        settings: its sources.
        run_id: the run it comes from.
        values: offline metrics on test.
        report: `ranking.json` of its run; empty when it is not known.
        actions: names of the actions that each head counts; None = every event.
    """

    model: Ranker
    spec: RankerSpec
    rotation: NDArray[np.float32]
    settings: SourceSettings
    run_id: str
    values: dict[str, float]
    report: Mapping[str, Any] = field(default_factory=dict)
    actions: Mapping[str, Sequence[str] | None] = field(default_factory=dict)


def write_ranker(
    ranker: TrainedRanker,
    encoder: QueryEncoder,
    catalogue: Catalogue,
    fallbacks: Fallbacks,
    staged: Path,
    *,
    tolerance: float,
    rng: np.random.Generator,
) -> RankerFacts:
    """Write the files of the second stage and hold the graph against torch.

    Args:
        ranker: what is exported.
        encoder: the retriever of the bundle.
        catalogue: everything known of items and users; sources are fitted on all of it.
        fallbacks: the successors that the bundle holds.
        staged: folder of the bundle to be.
        tolerance: largest difference of an output, relative to max(1, |output|).
        rng: draws the requests.

    Raises:
        BundleError: ranker and bundle do not fit together, or the graph cannot be exported.
        GateError: the graph answers differently from torch.
    """
    numbers = item_numbers(catalogue.items, ranker.settings.numbers)
    histories = catalogue.histories
    sources = Sources(ModelScorer(encoder), histories, encoder.num_items, ranker.settings, numbers)
    if not np.array_equal(sources.successors.items, fallbacks.covisit_items):
        raise BundleError(
            "the ranker has learned from other co-visitation lists than the bundle would hold; use the default "
            f"sealing.covisit and sealing.covisit_top_k={ranker.settings.list_length}"
        )
    export_ranker(ranker.model, staged / bundle.RANKER, rotation=ranker.rotation)
    (staged / bundle.RANKER_SPEC).write_text(ranker.spec.to_json(), encoding="utf-8")
    np.save(staged / bundle.ITEM_FACTS, sources.facts.table)
    np.save(staged / bundle.TRENDING_ITEMS, sources.facts.trending())
    np.save(staged / bundle.FRESH_ITEMS, sources.facts.fresh(ranker.spec.fresh_days))
    items, weights = sources.neighbour_lists
    np.save(staged / bundle.NEIGHBOUR_ITEMS, items)
    np.save(staged / bundle.NEIGHBOUR_WEIGHTS, weights)
    difference, num_requests = _prove(ranker, sources, _requests(histories, rng), staged)
    if difference > tolerance:
        raise GateError(
            f"ranker: ONNX Runtime and torch differ by {difference:.1e} on {num_requests} requests, "
            f"{tolerance:.1e} is allowed; export with another torch, or raise the tolerance knowingly"
        )
    return RankerFacts(
        run_id=ranker.run_id,
        heads=[head.name for head in ranker.spec.heads],
        values=ranker.values,
        parity_requests=num_requests,
        parity_max_difference=difference,
    )


def _requests(histories: Sequences, rng: np.random.Generator) -> Sequences:
    """Draw users with a history; each asks an hour after the newest event of all."""
    assert histories.times is not None
    users = np.flatnonzero(histories.lengths > 0)
    drawn = np.sort(rng.choice(users, min(_PROVEN, len(users)), replace=False))
    asked_at = np.full(len(drawn), histories.times.max() + HOUR_US, dtype=np.int64)
    return replace(histories.take(drawn), asked_at=asked_at)


def _prove(ranker: TrainedRanker, sources: Sources, requests: Sequences, staged: Path) -> tuple[float, int]:
    """Compare both on every request, keep the first few as golden; return the largest relative difference."""
    session, largest, count = open_encoder(staged / bundle.RANKER), 0.0, 0
    golden: dict[str, NDArray[np.generic]] = {}
    for asker, merged, facts in sources.requests(requests):
        arrays = ranker_arrays(merged, asker, facts, sources.item_vectors, ranker.spec)
        expected = _torch_outputs(ranker, arrays)
        found = run_ranker(session, arrays._asdict())
        largest = max(largest, float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()))
        if count < _GOLDEN:
            golden |= _golden(count, asker, merged, expected[0])
        count += 1
    np.savez(staged / bundle.RANKER_GOLDEN, **golden)  # type: ignore[arg-type]  # numpy types the keywords as one thing
    return largest, count


def _golden(index: int, asker: Asker, merged: Merged, outputs: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    """One request as arrays: what was asked, what was proposed, what must come out."""
    parts = asker._asdict() | merged._asdict() | {"outputs": outputs}
    return {f"{name}_{index}": np.asarray(values) for name, values in parts.items()}


def _torch_outputs(ranker: TrainedRanker, arrays: RankerArrays) -> NDArray[np.float32]:
    turned = arrays._replace(
        candidate_vectors=arrays.candidate_vectors @ ranker.rotation,
        query=arrays.query @ ranker.rotation,
        history_vectors=arrays.history_vectors @ ranker.rotation,
    )
    with torch.inference_mode():
        outputs: NDArray[np.float32] = ranker.model(*(torch.from_numpy(array) for array in turned)).numpy()
    return outputs
