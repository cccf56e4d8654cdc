"""Fill a slate place by place: greedily, or leaving something to chance with known probabilities. Pure functions.

The propensity of a place is the probability that its item is put there, given the candidates and the items above. The
probability of a whole slate is the product of its propensities, which is what inverse propensity scoring needs.

Source of the softmax policy: Plackett-Luce; drawn all at once it is the Gumbel top-k trick (Kool et al., Stochastic
Beams and Where to Find Them, ICML 2019).
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retrank.policy.diversity import Scores, Variety


class Slate(NamedTuple):
    """A filled slate.

    Attributes:
        positions: `[S]` int64 positions among the candidates, in the order of the slate.
        propensities: `[S]` float64, each in (0, 1].
    """

    positions: NDArray[np.int64]
    propensities: NDArray[np.float64]


class Choice(Protocol):
    """A policy for one place."""

    def probabilities(self, scores: Scores) -> Scores:
        """Return `[C]` probabilities of every candidate for this place; 0 where the score is -inf, sum 1."""
        ...


class Greedy:
    """The best score; of equal ones the first."""

    def probabilities(self, scores: Scores) -> Scores:
        """Return 1 for the best."""
        chances = np.zeros(len(scores))
        chances[np.argmax(scores)] = 1.0
        return chances


class Epsilon:
    """With probability `epsilon` any of the rest, each alike; else the best."""

    def __init__(self, epsilon: float) -> None:
        """Keep `epsilon`, 0..1."""
        self._epsilon = epsilon

    def probabilities(self, scores: Scores) -> Scores:
        """Return the mixture."""
        free = np.isfinite(scores)
        chances = np.where(free, self._epsilon / free.sum(), 0.0)
        chances[np.argmax(scores)] += 1.0 - self._epsilon
        return chances


class Softmax:
    """Proportional to `exp(score / temperature)`."""

    def __init__(self, temperature: float) -> None:
        """Keep the temperature, > 0, in units of the scores."""
        self._temperature = temperature

    def probabilities(self, scores: Scores) -> Scores:
        """Return the softmax."""
        weights = np.exp((scores - scores.max()) / self._temperature)
        return np.asarray(weights / weights.sum())


def fill(variety: Variety, choice: Choice, k: int, rng: np.random.Generator) -> Slate:
    """Fill up to k places, each given those above.

    When every remaining candidate is ruled out by the variety rule, the rule is set aside: a full slate comes first.

    Args:
        variety: what each candidate is worth, given those chosen.
        choice: how one of them is taken.
        k: places, >= 0.
        rng: source of chance; greedy choices draw nothing from it.
    """
    unruled = variety.adjusted()
    taken = np.zeros(len(unruled), dtype=bool)
    positions, propensities = [], []
    for _ in range(min(k, len(unruled))):
        scores = np.where(taken, -np.inf, variety.adjusted())
        if not np.isfinite(scores).any():
            scores = np.where(taken, -np.inf, unruled)
        position, propensity = _draw(choice.probabilities(scores), rng)
        variety.choose(position)
        taken[position] = True
        positions.append(position)
        propensities.append(propensity)
    return Slate(np.array(positions, dtype=np.int64), np.array(propensities, dtype=np.float64))


def plackett_luce(scores: NDArray[np.floating], k: int, temperature: float, rng: np.random.Generator) -> Slate:
    """Draw k places at once: the same distribution as `fill` with `Softmax` and no variety rule, without the loop.

    Args:
        scores: `[C]` finite scores.
        k: places.
        temperature: > 0, in units of the scores.
        rng: source of chance.
    """
    logits = np.asarray(scores, dtype=np.float64) / temperature
    order = np.argsort(-(logits + rng.gumbel(size=len(logits))), kind="stable")
    drawn = logits[order]
    left = np.logaddexp.accumulate(drawn[::-1])[::-1]  # log weight of what is still in the race at each place
    propensities = np.exp(drawn - left)[:k]
    return Slate(order[:k].astype(np.int64), np.clip(propensities, np.finfo(np.float64).tiny, 1.0))


def _draw(chances: Scores, rng: np.random.Generator) -> tuple[int, float]:
    certain = int(np.argmax(chances))
    if chances[certain] == 1.0:
        return certain, 1.0
    steps = np.cumsum(chances)
    position = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
    return position, float(chances[position])
