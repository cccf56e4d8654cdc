"""Variety on a slate: what an item is still worth once others stand above it. Pure functions on arrays.

A rule keeps the scores of C candidates, adjusted to those already chosen; -inf means not now. Whoever fills the slate
takes the best of them, or draws by them (`policy.exploration`), and says which. The scores are changed in place: a
slate of twenty looks at them twenty times.

Source of MMR: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998. Deviation: relevance is
the score scaled to 0..1 over the candidates, as scores of different stages have different scales.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
_NEVER = -np.inf
_SHORTEST = np.finfo(np.float32).tiny


class Variety(Protocol):
    """A rule that is told what was chosen, and says what the rest is then worth."""

    @property
    def scores(self) -> Scores:
        """`[C]` scores given what was chosen so far; -inf for what was, and for what must not follow."""
        ...

    def choose(self, position: int) -> None:
        """Take note of the candidate that fills the next place."""
        ...


class Plain:
    """No rule: scores as they are."""

    def __init__(self, scores: NDArray[np.floating]) -> None:
        """Keep `[C]` scores."""
        self.scores: Scores = np.array(scores, dtype=np.float64)

    def choose(self, position: int) -> None:
        """Nothing follows from it for the others."""
        self.scores[position] = _NEVER


class Mmr:
    """Maximal marginal relevance: `(1 - strength) * relevance - strength * largest cosine with what is above`."""

    def __init__(
        self,
        scores: NDArray[np.floating],
        vectors: NDArray[np.float32],
        strength: float,
        measure: NDArray[np.floating] | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            scores: `[C]`, higher is better.
            vectors: `[C, D]` float32 item vectors.
            strength: weight of variety, 0..1.
            measure: scores whose range counts as 0..1; None measures by `scores`.
        """
        self._relevance = (1.0 - strength) * scaled(scores, measure)
        lengths = np.sqrt(np.einsum("cd,cd->c", vectors, vectors))
        self._unit = vectors / np.maximum(lengths, _SHORTEST)[:, None]  # a zero vector is like nothing
        self._against = np.float32(-strength) * self._unit  # weighed once, not for every place
        self._loss = np.full(len(vectors), np.inf, dtype=np.float32)  # of what is most like one above; none is yet
        self.scores: Scores = self._relevance.copy()

    def choose(self, position: int) -> None:
        """Compare everything with the new item."""
        self._relevance[position] = _NEVER
        np.minimum(self._loss, self._against @ self._unit[position], out=self._loss)
        np.add(self._relevance, self._loss, out=self.scores)


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
        self.scores: Scores = np.array(scores, dtype=np.float64)
        self._groups, self._caps = groups, caps
        self._held: dict[tuple[str, int], int] = {}

    def choose(self, position: int) -> None:
        """Count the groups of the new item."""
        self.scores[position] = _NEVER
        for name, groups in self._groups.items():
            group = int(groups[position])
            held = self._held[name, group] = self._held.get((name, group), 0) + 1
            if group and held >= self._caps[name]:
                self.scores[groups == group] = _NEVER


def scaled(scores: NDArray[np.floating], measure: NDArray[np.floating] | None = None) -> Scores:
    """Return `[C]` scores scaled so that the range of `measure`, by default their own, is 0..1.

    Of a measure without a range nothing is scaled: the lowest becomes 0, which all are when the scores are their own.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) == 0:
        return values
    measured = values if measure is None else np.asarray(measure, dtype=np.float64)
    lowest, span = measured.min(), measured.max() - measured.min()
    in_range: Scores = (values - lowest) / (span if span > 0 else 1.0)
    return in_range
