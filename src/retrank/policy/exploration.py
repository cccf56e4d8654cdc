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

    def draw(self, scores: Scores, best: int, rng: np.random.Generator) -> tuple[int, float]:
        """Take one of `[C]` scores, the largest of which stands at `best`; one of -inf is never taken.

        Returns:
            The position, and the probability with which it was taken.
        """
        ...


class Greedy:
    """The best score; of equal ones the first."""

    def draw(self, scores: Scores, best: int, rng: np.random.Generator) -> tuple[int, float]:
        """Take the best; nothing is left to chance."""
        del scores, rng
        return best, 1.0


class Epsilon:
    """With probability `epsilon` any of the rest, each alike; else the best."""

    def __init__(self, epsilon: float) -> None:
        """Keep `epsilon`, 0..1."""
        self._epsilon = epsilon

    def draw(self, scores: Scores, best: int, rng: np.random.Generator) -> tuple[int, float]:
        """Draw from the mixture."""
        free = np.isfinite(scores)
        chances = np.where(free, self._epsilon / np.count_nonzero(free), 0.0)
        chances[best] += 1.0 - self._epsilon
        return _drawn(chances, best, rng)


class Softmax:
    """Proportional to `exp(score / temperature)`."""

    def __init__(self, temperature: float) -> None:
        """Keep the temperature, > 0, in units of the scores."""
        self.temperature = temperature

    def draw(self, scores: Scores, best: int, rng: np.random.Generator) -> tuple[int, float]:
        """Draw by weights of which the largest is 1."""
        weights = scores - scores[best]
        weights /= self.temperature
        return _drawn(np.exp(weights, out=weights), best, rng)


def fill(
    variety: Variety, choice: Choice, k: int, rng: np.random.Generator, last: NDArray[np.bool_] | None = None
) -> Slate:
    """Fill up to k places, each given those above.

    When every remaining candidate is ruled out by the variety rule, the rule is set aside: a full slate comes first.

    Args:
        variety: what each candidate is worth, given those chosen; it is used up.
        choice: how one of them is taken.
        k: places, >= 0.
        rng: source of chance; greedy choices draw nothing from it.
        last: `[C]` candidates that come after all others, by the same rules among themselves; None when none do.
    """
    unruled = variety.scores.copy()
    others = k if last is None else int(np.count_nonzero(~last))
    positions, propensities = list[int](), list[float]()
    for place in range(min(k, len(unruled))):
        out = None if last is None else (last if place < others else ~last)
        scores = _without(variety.scores, out)
        best = int(scores.argmax())
        if scores[best] == -np.inf:
            scores = _without(unruled, out)
            best = int(scores.argmax())
        position, propensity = choice.draw(scores, best, rng)
        variety.choose(position)
        unruled[position] = -np.inf
        positions.append(position)
        propensities.append(propensity)
    return Slate(np.array(positions, dtype=np.int64), np.array(propensities, dtype=np.float64))


def plackett_luce(
    scores: NDArray[np.floating],
    k: int,
    temperature: float,
    rng: np.random.Generator,
    last: NDArray[np.bool_] | None = None,
) -> Slate:
    """Draw k places at once: the same distribution as `fill` with `Softmax` and no variety rule, without the loop.

    Args:
        scores: `[C]` finite scores.
        k: places.
        temperature: > 0, in units of the scores.
        rng: source of chance.
        last: `[C]` candidates that come after all others, drawn among themselves; None when none do.
    """
    if last is not None:
        groups = [np.flatnonzero(~last), np.flatnonzero(last)]
        drawn_of = [plackett_luce(scores[group], k, temperature, rng) for group in groups]
        positions = np.concatenate([group[slate.positions] for group, slate in zip(groups, drawn_of, strict=True)])
        return Slate(positions[:k], np.concatenate([slate.propensities for slate in drawn_of])[:k])
    logits = np.asarray(scores, dtype=np.float64) / temperature
    order = np.argsort(-(logits + rng.gumbel(size=len(logits))), kind="stable")
    drawn = logits[order]
    left = np.logaddexp.accumulate(drawn[::-1])[::-1]  # log weight of what is still in the race at each place
    propensities = np.exp(drawn - left)[:k]
    return Slate(order[:k].astype(np.int64), np.clip(propensities, np.finfo(np.float64).tiny, 1.0))


def _without(scores: Scores, out: NDArray[np.bool_] | None) -> Scores:
    """Return scores that rule out some candidates."""
    return scores if out is None else np.where(out, -np.inf, scores)


def _drawn(weights: Scores, best: int, rng: np.random.Generator) -> tuple[int, float]:
    """Draw a position in proportion to `[C]` weights >= 0; nothing is drawn when all the weight stands at `best`."""
    steps = weights.cumsum()
    total = float(steps[-1])
    if weights[best] == total:
        return best, 1.0
    position = int(steps.searchsorted(rng.random() * total, side="right"))
    return position, float(weights[position]) / total
