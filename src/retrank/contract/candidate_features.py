"""The numbers a ranker reads about a candidate: the one definition, used by training and serving.

A feature of a candidate depends on the request, the item and what each source said about it, never on which other
candidates there are.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.item_facts import ItemFacts
from retrank.contract.proposals import Merged

SEQUENCE = "sequence"
RECENT_EVENTS = 10
_DAY = 86_400.0
_WEEKDAY_OF_1970 = 3  # the first of January 1970 was a Thursday; Monday is 0
_FIXED = (
    "popularity_log", "recent_popularity_log", "item_age_days_log", "item_idle_days_log",
    "history_length_log", "newest_event_days_log", "closest_recent", "mean_recent",
)  # fmt: skip
CONTEXT = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
"""Features of the moment of the request alone."""


class Asker(NamedTuple):
    """Who asks, and when.

    Attributes:
        history: `[H]` int64 item rows, oldest first, H >= 1.
        ages: `[H]` int64 seconds since each event, >= 0.
        actions: `[H]` int64 action rows, 0 = unknown.
        query: `[D]` float32 query of the retriever.
        now: seconds since 1970, UTC.
    """

    history: NDArray[np.int64]
    ages: NDArray[np.int64]
    actions: NDArray[np.int64]
    query: NDArray[np.float32]
    now: float


def feature_names(sources: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the features in order.

    Args:
        sources: the sources in the order of the columns of `Merged`.
        numbers: names of the items' numbers, see `ItemFacts`.
    """
    of_sources = tuple(f"{source}_{what}" for source in sources for what in ("score", "rank_log"))
    of_numbers = tuple(name for number in numbers for name in (number, f"{number}_above_recent"))
    return of_sources + _FIXED + of_numbers + CONTEXT


def candidate_features(
    merged: Merged, sources: tuple[str, ...], asker: Asker, facts: ItemFacts, item_vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `[C, F]` float32 features of C candidates; NaN = unknown.

    The score of the sequence model is exact for every candidate, whoever proposed it; other sources count only where
    they did.

    Args:
        merged: the candidates.
        sources: names of its columns.
        asker: the request.
        facts: what is known of the items.
        item_vectors: `[N + 1, D]` float32 of the retriever.
    """
    rows = merged.rows
    vectors = item_vectors[rows]
    scores = merged.scores.copy()
    if SEQUENCE in sources:
        scores[:, sources.index(SEQUENCE)] = np.einsum("cd,d->c", vectors, asker.query)
    of_sources = np.stack([scores, np.log(merged.ranks)], axis=2).reshape(len(rows), 2 * len(sources))
    moment = np.broadcast_to(_moment(asker.now), (len(rows), len(CONTEXT)))
    parts = [of_sources, _of_items(rows, asker, facts), _of_history(vectors, asker, item_vectors)]
    features = np.concatenate([*parts, _of_numbers(rows, asker, facts), moment], axis=1)
    return np.ascontiguousarray(features, dtype=np.float32)


def _of_items(rows: NDArray[np.int64], asker: Asker, facts: ItemFacts) -> NDArray[np.float64]:
    """`[C, 4]`: popularity, recent popularity, days since the first and since the last event, as logarithms."""
    known = facts.table[rows, :4].astype(np.float64)
    days = np.maximum(asker.now / _DAY - known[:, 2:], 0.0)
    return np.concatenate([np.log(known[:, :2] + 1e-6), np.log1p(days)], axis=1)


def _of_history(vectors: NDArray[np.float32], asker: Asker, item_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[C, 4]`: length and newest age of the history; largest and mean cosine with its newest events."""
    recent = item_vectors[asker.history[-RECENT_EVENTS:]]
    cosines = _unit(vectors) @ _unit(recent).T  # [C, R]
    alike = np.array([np.log(len(asker.history)), np.log1p(asker.ages[-1] / _DAY)], dtype=np.float32)
    of_request = np.broadcast_to(alike, (len(vectors), 2))
    return np.concatenate([of_request, cosines.max(axis=1, keepdims=True), cosines.mean(axis=1, keepdims=True)], axis=1)


def _of_numbers(rows: NDArray[np.int64], asker: Asker, facts: ItemFacts) -> NDArray[np.float32]:
    """`[C, 2 K]`: each number, and how far it lies above the mean of the newest events where that is known."""
    numbers = facts.table[:, 4:]
    own, recent = numbers[rows], numbers[asker.history[-RECENT_EVENTS:]]
    known = np.isfinite(recent)
    usual = np.where(known, recent, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    return np.stack([own, own - usual], axis=2).reshape(len(rows), -1)


def _moment(now: float) -> NDArray[np.float64]:
    """`[4]`: place in the day and in the week, on circles."""
    day = 2 * np.pi * (now % _DAY) / _DAY
    week = 2 * np.pi * ((now // _DAY + _WEEKDAY_OF_1970) % 7) / 7
    return np.array([np.sin(day), np.cos(day), np.sin(week), np.cos(week)])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)[:, None]
    return unit
