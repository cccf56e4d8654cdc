"""How a slate is filled as it reads in the documents: everything is worked out anew for every place. An oracle."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Worth = Callable[[list[int]], Scores]
"""Positions chosen so far -> `[C]` what every candidate is worth now; -inf for what must not follow."""
Chances = Callable[[Scores], Scores]
"""`[C]` scores, -inf for what must not be taken -> `[C]` probabilities."""


class Filled(NamedTuple):
    """Positions in the order of the slate, and the probability of each place."""

    positions: list[int]
    propensities: list[float]


def plain(scores: Scores) -> Worth:
    return lambda _: scores


def mmr(scores: Scores, vectors: NDArray[np.float32], strength: float) -> Worth:
    span = scores.max(initial=0) - scores.min(initial=0)
    relevance = (scores - scores.min(initial=0)) / span if span else np.zeros(len(scores))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)

    def worth(chosen: list[int]) -> Scores:
        likeness = (unit @ unit[chosen].T).max(axis=1) if chosen else np.zeros(len(scores))
        adjusted: Scores = (1 - strength) * relevance - strength * likeness
        return adjusted

    return worth


def caps(scores: Scores, groups: Mapping[str, NDArray[np.int64]], most: Mapping[str, int]) -> Worth:
    def full(name: str, one: int, chosen: list[int]) -> bool:
        own = int(groups[name][one])
        return own > 0 and sum(groups[name][other] == own for other in chosen) >= most[name]

    def worth(chosen: list[int]) -> Scores:
        ruled_out = [any(full(name, one, chosen) for name in groups) for one in range(len(scores))]
        return np.where(ruled_out, -np.inf, scores)

    return worth


def greedy(scores: Scores) -> Scores:
    chances = np.zeros(len(scores))
    chances[np.argmax(scores)] = 1.0
    return chances


def epsilon(share: float) -> Chances:
    def chances(scores: Scores) -> Scores:
        free = np.isfinite(scores)
        mixed = np.where(free, share / free.sum(), 0.0)
        mixed[np.argmax(scores)] += 1.0 - share
        return mixed

    return chances


def softmax(temperature: float) -> Chances:
    def chances(scores: Scores) -> Scores:
        weights = np.exp((scores - scores.max()) / temperature)
        return np.asarray(weights / weights.sum())

    return chances


def filled(
    worth: Worth, chances: Chances, k: int, rng: np.random.Generator, last: NDArray[np.bool_] | None = None
) -> Filled:
    """Fill up to k places, `last` when no others are left; one number is drawn for each place that is not certain."""
    slate, size = Filled([], []), len(worth([]))
    for _ in range(min(k, size)):
        taken = np.isin(np.arange(size), slate.positions)
        if last is not None and not (taken | last).all():
            taken = taken | last
        scores = np.where(taken, -np.inf, worth(slate.positions))
        if np.isneginf(scores).all():
            scores = np.where(taken, -np.inf, worth([]))  # a full slate comes first
        probabilities = chances(scores)
        position = int(np.argmax(probabilities))
        if probabilities[position] != 1.0:
            steps = np.cumsum(probabilities)
            position = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
        slate.positions.append(position)
        slate.propensities.append(float(probabilities[position]))
    return slate
