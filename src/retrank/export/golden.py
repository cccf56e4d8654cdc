"""Golden requests of a bundle: drawn from real histories, answered by torch and exact search."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.encode import AGES, encode
from retrank.contract.golden import GoldenCase
from retrank.contract.moments import HOUR_US
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.export.exact import exact_top_k
from retrank.export.parity import torch_queries
from retrank.export.sampling import sample_histories
from retrank.models.protocols import QueryEncoder

NUM_USERS, NUM_SESSIONS, NUM_SINGLE, NUM_PARTLY_UNKNOWN = 12, 10, 8, 4
TOP_K = 10
_SESSION_LENGTH = 5


class _Request(NamedTuple):
    """Raw ids of a history, unknown ones included; ages in seconds and action rows of the known ones; the context."""

    kind: str
    item_ids: list[str]
    ages: list[int]
    actions: list[int]
    context: list[int]


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
    rows = [items.rows(request.item_ids).tolist() for request in requests]
    times = [[-age * 1_000_000 for age in request.ages] for request in requests]
    done = [request.actions for request in requests]
    asked_in = np.array([request.context for request in requests], dtype=np.int32)
    asked_at = np.zeros(len(rows), dtype=np.int64)
    asked = replace(Sequences.from_lists(rows, times, done), asked_at=asked_at, asked_in=asked_in)
    queries = torch_queries(encoder, asked)
    top_rows, top_scores = exact_top_k(queries, item_vectors, min(TOP_K, len(items)))
    return [
        GoldenCase(
            kind=request.kind,  # type: ignore[arg-type]  # one of the literals in _requests; pydantic checks it
            item_ids=request.item_ids,
            item_rows=item_rows,
            ages=request.ages,
            actions=request.actions,
            context=request.context,
            top_rows=best.tolist(),
            top_item_ids=[items.id(row) for row in best],
            top_scores=scores.tolist(),
            tolerance=tolerance,
        )
        for request, item_rows, best, scores in zip(requests, rows, top_rows, top_scores, strict=True)
    ]


def _requests(histories: Sequences, items: Vocab, max_length: int, rng: np.random.Generator) -> Iterator[_Request]:
    untold = [0] * (0 if histories.contexts is None else histories.contexts.shape[1])
    for user in rng.choice(np.flatnonzero(histories.lengths), NUM_USERS):
        yield _real("user", histories.take(np.array([user])), items, max_length)
    sessions = sample_histories(histories, 3 + NUM_SESSIONS + NUM_PARTLY_UNKNOWN, max_length, rng)
    recent = [
        _real("session", sessions.take(np.array([session])), items, _SESSION_LENGTH)
        for session in range(3, len(sessions))
    ]
    yield from recent[:NUM_SESSIONS]
    for row in rng.integers(1, len(items), size=NUM_SINGLE, endpoint=True).tolist():
        yield _Request("single_item", [items.id(row)], [0], [0], untold)
    for _, item_ids, ages, actions, context in recent[NUM_SESSIONS:]:
        yield _Request("unknown_items", [_unknown(items, 0), *item_ids, _unknown(items, 1)], ages, actions, context)
    yield _Request("unknown_items", [_unknown(items, 2)], [], [], untold)
    yield _Request("nothing", [], [], [], untold)


def _real(kind: str, history: Sequences, items: Vocab, max_length: int) -> _Request:
    """Ask one hour after the newest event of one history, in its context; without times every event is new."""
    newest = history.of(0)[-max_length:].tolist()
    if history.times is None:
        ages = np.zeros(len(newest), dtype=np.int64)
    else:
        asked_at = history.times[-1:] + HOUR_US
        ages = encode(replace(history, asked_at=asked_at), (AGES,), max_length)[AGES][0, -len(newest) :]
    actions = np.zeros(len(newest), dtype=np.int16) if history.actions is None else history.actions[-len(newest) :]
    context = [] if history.contexts is None else history.contexts[-1].tolist()
    return _Request(kind, [items.id(row) for row in newest], ages.tolist(), actions.tolist(), context)


def _unknown(items: Vocab, number: int) -> str:
    """Return an id that no item has."""
    raw = f"no-such-item-{number}"
    while items.row(raw):
        raw += "-"
    return raw
