"""Variety on a slate: what an item is still worth once others stand above it. Pure functions on arrays.

A rule turns the scores of C candidates, given those already chosen, into adjusted scores; -inf means not now. Whoever
fills the slate takes the best adjusted score, or draws by it (`policy.exploration`).

Source of MMR: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998. Deviation: relevance is
the score scaled to 0..1 over the candidates, as scores of different stages have different scales.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class Variety(Protocol):
    """A rule that is told what was chosen, and says what the rest is then worth."""

    def adjusted(self) -> Scores:
        """Return `[C]` scores given what was chosen so far; -inf for what must not follow."""
        ...

    def choose(self, position: int) -> None:
        """Take note of the candidate that fills the next place."""
        ...


class Plain:
    """No rule: scores as they are."""

    def __init__(self, scores: NDArray[np.floating]) -> None:
        """Keep `[C]` scores."""
        self._scores = np.asarray(scores, dtype=np.float64)

    def adjusted(self) -> Scores:
        """Return the scores."""
        return self._scores

    def choose(self, position: int) -> None:
        """Nothing follows from it."""


class Mmr:
    """Maximal marginal relevance: `(1 - strength) * relevance - strength * largest cosine with what is above`."""

    def __init__(self, scores: NDArray[np.floating], vectors: NDArray[np.float32], strength: float) -> None:
        """Keep what is needed.

        Args:
            scores: `[C]`, higher is better.
            vectors: `[C, D]` float32 item vectors.
            strength: weight of variety, 0..1.
        """
        self._relevance = (1.0 - strength) * scaled(scores)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        self._strength = strength
        self._likeness = np.full(len(self._relevance), -np.inf)

    def adjusted(self) -> Scores:
        """Return `[C]` marginal relevances."""
        likeness = np.where(np.isfinite(self._likeness), self._likeness, 0.0)
        return self._relevance - self._strength * likeness

    def choose(self, position: int) -> None:
        """Compare everything with the new item."""
        self._likeness = np.maximum(self._likeness, self._unit @ self._unit[position])


class Caps:
    """At most so many items of one group, for one or more groupings."""

    def __init__(
        self, scores: NDArray[np.floating], groups: Mapping[str, NDArray[np.integer]], caps: Mapping[str, int]
    ) -> None:
        """Keep what is needed.

        Args:
            scores: `[C]`, higher is better.
            groups: name -> `[C]` group of each candidate; 0 is no group and never capped.
            caps: name -> how many items of one group a slate may hold, >= 1.
        """
        self._scores = np.asarray(scores, dtype=np.float64)
        self._groups, self._caps = groups, caps
        self._full = np.zeros(len(self._scores), dtype=bool)
        self._held: dict[tuple[str, int], int] = {}

    def adjusted(self) -> Scores:
        """Return `[C]` scores, -inf where a group is full."""
        return np.where(self._full, -np.inf, self._scores)

    def choose(self, position: int) -> None:
        """Count the groups of the new item."""
        for name, groups in self._groups.items():
            group = int(groups[position])
            held = self._held[name, group] = self._held.get((name, group), 0) + 1
            if group and held >= self._caps[name]:
                self._full |= groups == group


def scaled(scores: NDArray[np.floating]) -> Scores:
    """Return `[C]` scores scaled to 0..1; all zero when they are equal."""
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 0:
        return values
    lowest, span = values.min(), values.max() - values.min()
    return (values - lowest) / span if span > 0 else np.zeros(len(values))
