"""Golden requests of a bundle: drawn from real histories, answered by torch and exact search."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retrank.contract.golden import GoldenCase
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.export.exact import exact_top_k
from retrank.export.parity import torch_queries
from retrank.export.sampling import sample_histories
from retrank.models.protocols import QueryEncoder

NUM_USERS, NUM_SESSIONS, NUM_SINGLE, NUM_PARTLY_UNKNOWN = 12, 10, 8, 4
TOP_K = 10
_SESSION_LENGTH = 5

_Request = tuple[str, list[str]]


def make_golden(
    encoder: QueryEncoder,
    item_vectors: NDArray[np.float32],
    items: Vocab,
    histories: Sequences,
    *,
    tolerance: float,
    rng: np.random.Generator,
) -> list[GoldenCase]:
    """Return 36 golden requests: known users, sessions, single items, unknown items, nothing at all.

    Args:
        encoder: the torch model; it gives the expected answers, so that the ONNX file is held against it.
        item_vectors: `[N + 1, D]` float32.
        items: raw ids of the N items.
        histories: real histories to draw from.
        tolerance: allowed difference of a score, relative to max(1, |score|).
        rng: source of randomness.
    """
    requests = list(_requests(histories, items, encoder.max_length, rng))
    rows = [items.rows(item_ids).tolist() for _, item_ids in requests]
    queries = torch_queries(encoder, Sequences.from_lists(rows))
    top_rows, top_scores = exact_top_k(queries, item_vectors, min(TOP_K, len(items)))
    return [
        GoldenCase(
            kind=kind,  # type: ignore[arg-type]  # one of the literals in _requests; pydantic checks it
            item_ids=item_ids,
            item_rows=item_rows,
            top_rows=best.tolist(),
            top_item_ids=[items.id(row) for row in best],
            top_scores=scores.tolist(),
            tolerance=tolerance,
        )
        for (kind, item_ids), item_rows, best, scores in zip(requests, rows, top_rows, top_scores, strict=True)
    ]


def _requests(histories: Sequences, items: Vocab, max_length: int, rng: np.random.Generator) -> Iterator[_Request]:
    for user in rng.choice(np.flatnonzero(histories.lengths), NUM_USERS):
        yield "user", [items.id(row) for row in histories.of(user)[-max_length:].tolist()]
    sessions = sample_histories(histories, 3 + NUM_SESSIONS + NUM_PARTLY_UNKNOWN, max_length, rng)
    recent = [[items.id(row) for row in rows.tolist()[-_SESSION_LENGTH:]] for rows in sessions][3:]
    for item_ids in recent[:NUM_SESSIONS]:
        yield "session", item_ids
    for row in rng.integers(1, len(items), size=NUM_SINGLE, endpoint=True).tolist():
        yield "single_item", [items.id(row)]
    for item_ids in recent[NUM_SESSIONS:]:
        yield "unknown_items", [_unknown(items, 0), *item_ids, _unknown(items, 1)]
    yield "unknown_items", [_unknown(items, 2)]
    yield "nothing", []


def _unknown(items: Vocab, number: int) -> str:
    """Return an id that no item has."""
    raw = f"no-such-item-{number}"
    while items.row(raw):
        raw += "-"
    return raw
