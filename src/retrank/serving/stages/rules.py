"""Follow the rules of operators: keep away, pin, boost and bury. Without a rule none of these stages applies.

    KeepAway     before retrieval: blocks become exclusions and tests, pinned items enter the race
    HoldPins     after the filter: pinned items that may be shown leave the race, with their places
    Weigh        after scoring: boosts and burials move scores; what is buried is arranged after all others
    PlacePins    after the slate is filled: pinned items take their places

A pin decides where an item stands, never whether it may be shown: what is withdrawn, excluded, filtered out or seen
stays away. What is left to chance is left to chance among the other places; a pinned place has propensity 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import Source
from retrank.contract.proposals import contained
from retrank.serving.draft import BITS, Candidates, Draft
from retrank.serving.live_rules import LiveRule, Pins, RuleRows
from retrank.serving.pipeline import Step

_PINNED: Source = "pinned"


@dataclass(frozen=True)
class KeepAway:
    """Let blocked items out of the race, and pinned ones into it."""

    rows: RuleRows
    step: Step = "hydrate"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where rules hold."""
        return bool(draft.rules)

    def run(self, draft: Draft) -> Draft:
        """Exclude named items, bar those that expressions mean, propose pins."""
        blocks = [rule for rule in draft.rules if rule.said.action == "block"]
        named = [self.rows.named(rule, draft.changes.new) for rule in blocks if rule.said.filter is None]
        if named:
            draft = draft._replace(excluded=np.unique(np.concatenate([draft.excluded, *named])))
        barred = tuple(self.rows.test(rule, draft.changes) for rule in blocks if rule.said.filter is not None)
        if barred:
            draft = draft._replace(barred=barred)
        pins = [self.rows.named(rule, draft.changes.new) for rule in draft.rules if rule.said.action == "pin"]
        return draft._replace(candidates=draft.candidates.add(np.concatenate(pins), _PINNED)) if pins else draft


@dataclass(frozen=True)
class HoldPins:
    """Take pinned items out of the race and leave fewer places to fill."""

    rows: RuleRows
    step: Step = "filter"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where something is pinned."""
        return any(rule.said.action == "pin" for rule in draft.rules)

    def run(self, draft: Draft) -> Draft:
        """Give each pinned item that may be shown a place of its own."""
        k, taken = draft.request.k, dict[int, int]()
        for rule in draft.rules:
            if rule.said.place is None:
                continue
            place = rule.said.place - 1
            rows = self.rows.named(rule, draft.changes.new)
            for row in rows[contained(rows, draft.candidates.rows)].tolist():
                while place in taken:
                    place += 1
                if place < k and row not in taken.values():
                    taken[place] = row
        places = np.array(sorted(taken), dtype=np.int64)
        rows = np.array([taken[place] for place in places.tolist()], dtype=np.int64)
        every, sources = draft.candidates.rows, draft.candidates.sources
        own = sources & ~BITS[_PINNED]  # what has no place is in the race only where a source proposed it
        left = (own != 0) & ~contained(every, np.sort(rows))
        draft = draft._replace(candidates=Candidates(every[left], own[left]))
        if not taken:
            return draft
        pins = Pins(rows, sources[np.searchsorted(every, rows)], places, k)
        return draft._replace(
            removed={**draft.removed, _PINNED: rows},  # a ranker leaves out what is gone
            request=draft.request.model_copy(update={"k": k - len(rows)}),
            pins=pins,
        )


@dataclass(frozen=True)
class Weigh:
    """Boost by standard deviations of the scores; bury below everything that is not buried."""

    rows: RuleRows
    step: Step = "rerank"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where something is boosted or buried."""
        return len(draft.candidates) > 0 and any(rule.said.action in ("boost", "bury") for rule in draft.rules)

    def run(self, draft: Draft) -> Draft:
        """Move scores, and note by which rule."""
        assert draft.scores is not None, "scored before reranked"
        scores, sources = draft.scores.astype(np.float64), draft.candidates.sources.copy()
        unit = float(scores.std()) or 1.0
        buried = np.zeros(len(scores), dtype=bool)
        for rule in draft.rules:
            if rule.said.action == "boost":
                meant = self._meant(rule, draft)
                scores[meant] += (rule.said.strength or 0.0) * unit
                sources[meant] |= BITS["boosted"]
            elif rule.said.action == "bury":
                buried |= self._meant(rule, draft)
        if buried.any():
            scores[buried] -= (scores.max() - scores.min()) + unit
            sources[buried] |= BITS["buried"]
        candidates = Candidates(draft.candidates.rows, sources)
        return draft._replace(candidates=candidates, scores=scores.astype(np.float32), unmoved=draft.scores)

    def _meant(self, rule: LiveRule, draft: Draft) -> NDArray[np.bool_]:
        return self.rows.test(rule, draft.changes)(draft.candidates.rows)


@dataclass(frozen=True)
class PlacePins:
    """Put pinned items where they stand; one takes the score of what stands below it."""

    step: Step = "rerank"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Only where something was pinned."""
        return draft.pins is not None

    def run(self, draft: Draft) -> Draft:
        """Weave pins and slate together."""
        pins, slate = draft.pins, draft.candidates
        assert pins is not None, "applies only with pins"
        assert draft.scores is not None, "scored before reranked"
        before = np.minimum(pins.places - np.arange(len(pins.places)), len(slate))  # places of the slate above each pin
        scores = np.append(draft.scores, draft.scores[-1:] if len(slate) else np.zeros(1, dtype=np.float32))
        drawn = draft.propensities
        return draft._replace(
            candidates=Candidates(
                np.insert(slate.rows, before, pins.rows), np.insert(slate.sources, before, pins.sources)
            ),
            scores=np.insert(draft.scores, before, scores[before]),
            propensities=None if drawn is None else np.insert(drawn, before, 1.0),
            removed={name: rows for name, rows in draft.removed.items() if name != _PINNED},
            request=draft.request.model_copy(update={"k": pins.k}),
            pins=None,
        )
