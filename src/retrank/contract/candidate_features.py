"""The numbers a ranker reads about a candidate: the one definition, used by training and serving.

A feature of a candidate depends on the request, the item and what each source said about it, never on which other
candidates there are.
"""

import math
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
MOMENT_FEATURES = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
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


class Candidates(NamedTuple):
    """What is known of the C candidates themselves, whether or not tables of items have a row for them.

    Attributes:
        vectors: `[C, D]` float32 of the retriever.
        known: `[C, 4 + K]` float32 facts, see `ItemFacts`.
    """

    vectors: NDArray[np.float32]
    known: NDArray[np.float32]


def feature_names(sources: tuple[str, ...], numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the features in order.

    Args:
        sources: the sources in the order of the columns of `Merged`.
        numbers: names of the items' numbers, see `ItemFacts`.
    """
    of_sources = tuple(f"{source}_{what}" for source in sources for what in ("score", "rank_log"))
    of_numbers = tuple(name for number in numbers for name in (number, f"{number}_above_recent"))
    return of_sources + _FIXED + of_numbers + MOMENT_FEATURES


def candidate_features(
    merged: Merged,
    sources: tuple[str, ...],
    asker: Asker,
    facts: ItemFacts,
    item_vectors: NDArray[np.float32],
    candidates: Candidates | None = None,
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
        candidates: what is known of the candidates, where it is at hand; None reads it of their rows.
    """
    vectors, known = candidates or Candidates(item_vectors[merged.rows], facts.table[merged.rows])
    recent = asker.history[-RECENT_EVENTS:]
    split, of_items = 2 * len(sources), len(_FIXED) + 2 * len(facts.numbers)
    features = np.empty((len(vectors), split + of_items + len(MOMENT_FEATURES)), dtype=np.float32)
    of_sources, others = features[:, :split], features[:, split:]
    of_sources[:, 0::2], of_sources[:, 1::2] = merged.scores, np.log(merged.ranks)
    if SEQUENCE in sources:
        of_sources[:, 2 * sources.index(SEQUENCE)] = np.einsum("cd,d->c", vectors, asker.query)
    _fill_items(others[:, :4], known, asker.now)
    _fill_history(others[:, 4:8], vectors, item_vectors[recent], asker)
    _fill_numbers(others[:, 8 : -len(MOMENT_FEATURES)], known[:, 4:], facts.table[recent, 4:])
    others[:, -len(MOMENT_FEATURES) :] = _moment(asker.now)
    return features


def _fill_items(features: NDArray[np.float32], known: NDArray[np.float32], now: float) -> None:
    """`[C, 4]`: popularity, recent popularity, days since the first and since the last event, as logarithms."""
    exact = known[:, :4].astype(np.float64)
    features[:, :2] = np.log(exact[:, :2] + 1e-6)
    features[:, 2:] = np.log1p(np.maximum(now / _DAY - exact[:, 2:], 0.0))


def _fill_history(
    features: NDArray[np.float32], vectors: NDArray[np.float32], recent: NDArray[np.float32], asker: Asker
) -> None:
    """`[C, 4]`: length and newest age of the history; largest and mean cosine with its R newest events."""
    cosines = (recent / _lengths(recent)[:, None]) @ vectors.T  # [R, C]
    cosines /= _lengths(vectors)
    features[:, 0] = math.log(len(asker.history))
    features[:, 1] = math.log1p(asker.ages[-1] / _DAY)
    features[:, 2] = np.maximum.reduce(cosines)
    features[:, 3] = np.add.reduce(cosines) / np.float32(len(cosines))


def _fill_numbers(features: NDArray[np.float32], own: NDArray[np.float32], recent: NDArray[np.float32]) -> None:
    """`[C, 2 K]`: each number, and how far it lies above the mean of the newest events where that is known."""
    if own.shape[1] == 0:
        return
    known = np.isfinite(recent)
    usual = np.where(known, recent, 0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    features[:, 0::2] = own
    np.subtract(own, usual, out=features[:, 1::2], casting="same_kind")


def _moment(now: float) -> tuple[float, float, float, float]:
    """Place in the day and in the week, on circles."""
    day = 2 * math.pi * (now % _DAY) / _DAY
    week = 2 * math.pi * ((now // _DAY + _WEEKDAY_OF_1970) % 7) / 7
    return math.sin(day), math.cos(day), math.sin(week), math.cos(week)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[M]` lengths of `[M, D]` vectors; a zero vector has a tiny one, to be divided by."""
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("md,md->m", vectors, vectors))
    return np.maximum(lengths, np.float32(1e-12))
