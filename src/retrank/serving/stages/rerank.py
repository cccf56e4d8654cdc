"""Rerank: order the candidates and cut the slate, with variety and exploration where the request asks for them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.contract.slate_options import Diversity, Explore
from retrank.policy.diversity import Caps, Mmr, Plain, Variety, scaled
from retrank.policy.exploration import Choice, Epsilon, Greedy, Slate, Softmax, fill, plackett_luce
from retrank.serving.draft import BITS, Draft
from retrank.serving.item_columns import ItemColumns, numbered
from retrank.serving.new_rows import vectors_of
from retrank.serving.pipeline import Step

_PLAIN = Diversity()
_NO_CHANCE = Explore()
_LEAST_STRENGTH = 1e-6
"""Of softmax: a colder one takes the best all the same, and scores divided by it are no numbers any more."""


@dataclass(frozen=True)
class Arrange:
    """Fill the slate place by place, by the request's diversity and exploration settings."""

    item_vectors: NDArray[np.float32]
    columns: ItemColumns
    step: Step = "rerank"
    on_failure: DegradedReason = "rerank_failed"

    def applies(self, draft: Draft) -> bool:
        """Only when plain order is not what was asked for."""
        spread, chance = draft.request.diversity or _PLAIN, draft.request.explore or _NO_CHANCE
        return len(draft.candidates) > 0 and (spread.mode != "none" or explores(chance))

    def run(self, draft: Draft) -> Draft:
        """Fill the slate and note the propensity of each place."""
        spread, chance = draft.request.diversity or _PLAIN, draft.request.explore or _NO_CHANCE
        if spread.mode == "cap" and any(self._unknown(draft, name) for name in spread.caps):
            draft = draft.without("unknown_attribute")
        assert draft.scores is not None, "scored before reranked"
        draft = draft.cut(_best_first(draft))._replace(arranged=True)
        slate = self._filled(draft, spread, chance)
        if explores(chance):
            draft = draft._replace(propensities=slate.propensities)
        draft = draft.cut(slate.positions)
        return draft.without("cap_exceeded") if spread.mode == "cap" and self._beyond(draft, spread) else draft

    def _filled(self, draft: Draft, spread: Diversity, chance: Explore) -> Slate:
        assert draft.scores is not None
        k, rng = draft.request.k, np.random.default_rng(draft.seed)
        scores = np.asarray(draft.scores, dtype=np.float64)
        last, choice = _buried(draft), _choice(draft, spread, chance)
        if spread.mode == "none" and isinstance(choice, Softmax):
            return plackett_luce(scores, k, choice.temperature, rng, last)
        return fill(self._variety(draft, spread), choice, k, rng, last)

    def _variety(self, draft: Draft, spread: Diversity) -> Variety:
        assert draft.scores is not None
        if spread.mode == "mmr":
            vectors = vectors_of(draft.changes.new, self.item_vectors, draft.candidates.rows)
            return Mmr(draft.scores, vectors, spread.strength, draft.unmoved)
        if spread.mode == "cap":
            return Caps(draft.scores, {name: self._groups(draft, name) for name in spread.caps}, spread.caps)
        return Plain(draft.scores)

    def _groups(self, draft: Draft, name: str) -> NDArray[np.int64]:
        """Number the values of an attribute over the candidates; 0 = no value."""
        return numbered(draft.changes.values(self.columns.column(name), name, draft.candidates.rows))

    def _beyond(self, draft: Draft, spread: Diversity) -> bool:
        """Tell whether a slate holds more items of one value than its caps say."""
        held = ((most, np.bincount(self._groups(draft, name))) for name, most in spread.caps.items())
        return any(counts[1:].max(initial=0) > most for most, counts in held)

    def _unknown(self, draft: Draft, name: str) -> bool:
        return self.columns.column(name) is None and not draft.changes.knows(name)


@dataclass(frozen=True)
class TopK:
    """The k best by score; ties go to the smaller item row."""

    step: Step = "rerank"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every slate that was not arranged otherwise."""
        return not draft.arranged

    def run(self, draft: Draft) -> Draft:
        """Sort and cut."""
        return draft.cut(_best_first(draft)[: draft.request.k])


def explores(chance: Explore) -> bool:
    """Tell whether anything is left to chance."""
    return chance.policy != "none" and chance.strength > 0


def _best_first(draft: Draft) -> NDArray[np.intp]:
    """Return the positions by falling score; rows increase, so of equal scores the smaller row stands first.

    What is buried comes after all else, also where its score was lowered by less than a float32 can tell.
    """
    assert draft.scores is not None, "scored before reranked"
    last = _buried(draft)
    return np.argsort(-draft.scores, kind="stable") if last is None else np.lexsort((-draft.scores, last))


def _buried(draft: Draft) -> NDArray[np.bool_] | None:
    """Return which candidates are buried; None when none is."""
    if draft.unmoved is None:
        return None
    buried = (draft.candidates.sources & BITS["buried"]) != 0
    return buried if buried.any() else None


def _choice(draft: Draft, spread: Diversity, chance: Explore) -> Choice:
    if not explores(chance):
        return Greedy()
    if chance.policy == "epsilon":
        return Epsilon(chance.strength)
    measure = np.asarray(draft.scores if draft.unmoved is None else draft.unmoved, dtype=np.float64)
    if spread.mode == "mmr":
        measure = (1.0 - spread.strength) * scaled(measure)
    return Softmax(max(chance.strength, _LEAST_STRENGTH) * _spread(measure))


def _spread(scores: NDArray[np.float64]) -> float:
    """Return the standard deviation of the scores, the unit of temperatures; 1 when they are all equal."""
    centred = scores - scores.sum() / len(scores)
    return math.sqrt(centred @ centred / len(scores)) or 1.0
