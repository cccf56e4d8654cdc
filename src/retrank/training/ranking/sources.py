"""The sources that propose candidates, fitted on the events up to one moment, and what they propose for a history.

Proposals are made request by request with the functions that serving uses, so that a ranker learns from exactly what
it will meet; only the queries of the sequence model are computed in batches.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrank.contract.candidate_features import Asker
from retrank.contract.errors import ConfigError
from retrank.contract.item_facts import ItemFacts, item_facts
from retrank.contract.moments import SECOND_US
from retrank.contract.proposals import Merged, Proposal, best_of, merge
from retrank.contract.sequences import Sequences
from retrank.models.baselines.ease import EASE
from retrank.models.baselines.item_knn import ItemKNN
from retrank.models.baselines.markov import Markov
from retrank.policy.covisit import Successors, followers
from retrank.policy.neighbours import neighbours
from retrank.training.ranking.renewal import Renewals
from retrank.training.scorer import ModelScorer

SOURCES = ("sequence", "covisit", "neighbours", "popular", "fresh")
_LARGEST_EASE = 10_000
_BLOCK = 256
_RENEWALS_KEPT = 128


@dataclass(frozen=True)
class SourceSettings:
    """Which sources propose, and how.

    Attributes:
        limits: source -> how many of its unseen items enter, >= 1; sources: sequence (the retriever), covisit (what
            follows the newest events), neighbours (what goes with the history as a set), popular (lately), fresh (new).
        covisit_window: newest events that covisit looks at, >= 1.
        list_length: items kept per item in the lists of covisit and neighbours, >= 1.
        half_life_days: age at which an event counts half for recent popularity, > 0.
        fresh_days: an item is fresh if its first event is no older, counted back from the newest first event; > 0.
        numbers: numeric columns of the item table that the ranker reads.
        refresh_hours: how often what is counted of items is renewed after training, > 0: popular, fresh, and the facts
            a ranker reads. None = never, as when a bundle is served for the whole test window.
    """

    limits: Mapping[str, int] = field(
        default_factory=lambda: {"sequence": 200, "covisit": 100, "neighbours": 100, "popular": 50, "fresh": 50}
    )
    covisit_window: int = 20
    list_length: int = 50
    half_life_days: float = 10.0
    fresh_days: float = 14.0
    numbers: tuple[str, ...] = ()
    refresh_hours: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that propose nothing.

        Raises:
            ConfigError: an unknown source, or a value out of range.
        """
        unknown = sorted(set(self.limits) - set(SOURCES))
        if unknown or "sequence" not in self.limits:
            raise ConfigError(
                f"sources.limits names {sorted(self.limits)}; expected sequence and others of {', '.join(SOURCES)}"
            )
        least = {f"limits.{name}": limit for name, limit in self.limits.items()} | {
            "covisit_window": self.covisit_window,
            "list_length": self.list_length,
        }
        for name, value in least.items():
            if value < 1:
                raise ConfigError(f"sources.{name} is {value}; at least 1 is needed")
        if self.half_life_days <= 0 or self.fresh_days <= 0:
            raise ConfigError(
                f"sources: half_life_days {self.half_life_days} and fresh_days {self.fresh_days} must be above 0"
            )
        if self.refresh_hours is not None and self.refresh_hours <= 0:
            raise ConfigError(f"sources.refresh_hours is {self.refresh_hours}; expected hours above 0, or null = never")


class Request(NamedTuple):
    """One request with its candidates and what is known of items when it is made."""

    asker: Asker
    merged: Merged
    facts: ItemFacts


@dataclass(frozen=True)
class _Counted:
    """Facts of the items, and the two lists that follow from them."""

    facts: ItemFacts
    trending: NDArray[np.int64]
    fresh: NDArray[np.int64]


class Sources:
    """All sources at one moment; with renewals, what is counted of items is that of the moment of each request.

    Args:
        retriever: the trained sequence model.
        histories: U histories up to the moment.
        num_items: catalogue size N.
        settings: which sources, and how.
        numbers: name -> `[N + 1]` float32 numbers of the items.
        renewed: when what is counted is renewed; None = never.
    """

    def __init__(
        self,
        retriever: ModelScorer,
        histories: Sequences,
        num_items: int,
        settings: SourceSettings,
        numbers: Mapping[str, NDArray[np.float32]],
        *,
        renewed: Renewals | None = None,
    ) -> None:
        self.retriever, self.settings = retriever, settings
        self._num_items, self._numbers, self._renewed = num_items, numbers, renewed
        self.item_vectors = retriever.item_vectors()
        self._first = self._count(histories)
        self.facts = self._first.facts
        self._at_renewal = lru_cache(_RENEWALS_KEPT)(self._count_again)
        markov = Markov()
        markov.fit(histories, num_items)
        self.successors = Successors(*markov.successors(settings.list_length))
        knn = EASE() if num_items <= _LARGEST_EASE else ItemKNN()
        knn.fit(histories, num_items)
        self.neighbour_lists = knn.neighbours(settings.list_length)

    def requests(self, inputs: Sequences) -> Iterator[Request]:
        """Yield a request with its candidates for each of B histories with at least one event."""
        assert inputs.asked_at is not None, "requests have a moment"
        assert inputs.times is not None, "facts need times"
        for start in range(0, len(inputs), _BLOCK):
            block = inputs.take(np.arange(start, min(start + _BLOCK, len(inputs))))
            queries = self.retriever.queries(block)
            scores = queries @ self.item_vectors.T
            scores[:, 0] = -np.inf
            assert block.asked_at is not None
            assert block.times is not None
            for place in range(len(block)):
                events = slice(block.offsets[place], block.offsets[place + 1])
                asked_at = block.asked_at[place]
                asker = Asker(
                    history=block.item_rows[events].astype(np.int64),
                    ages=np.maximum(asked_at - block.times[events], 0) // SECOND_US,
                    actions=_actions(block, events),
                    query=queries[place],
                    now=asked_at / SECOND_US,
                )
                hidden = np.unique(asker.history)
                counted = self._counted(int(asked_at))
                proposals = self._propose(asker, scores[place], len(hidden), counted)
                yield Request(asker, merge(proposals, hidden, self.settings.limits), counted.facts)

    def _count(self, histories: Sequences) -> _Counted:
        settings = self.settings
        facts = item_facts(histories, self._num_items, half_life_days=settings.half_life_days, numbers=self._numbers)
        return _Counted(facts, facts.trending(), facts.fresh(settings.fresh_days))

    def _counted(self, moment: int) -> _Counted:
        """Return what was counted at the last renewal before a moment."""
        number = 0 if self._renewed is None else self._renewed.number(moment)
        return self._at_renewal(number) if number else self._first

    def _count_again(self, number: int) -> _Counted:
        assert self._renewed is not None, "there is a renewal"
        return self._count(self._renewed.known_at(number))

    def _propose(
        self, asker: Asker, scores: NDArray[np.float32], num_hidden: int, counted: _Counted
    ) -> dict[str, Proposal]:
        settings = self.settings
        wanted = {source: limit + num_hidden for source, limit in settings.limits.items()}
        found: dict[str, Proposal] = {"sequence": _largest(scores, wanted["sequence"])}
        if "covisit" in wanted:
            linked = followers(asker.history, self.successors, window=settings.covisit_window)
            found["covisit"] = best_of(*linked, wanted["covisit"])
        if "neighbours" in wanted:
            found["neighbours"] = neighbours(asker.history, *self.neighbour_lists, wanted["neighbours"])
        if "popular" in wanted:
            rows = counted.trending[: wanted["popular"]]
            found["popular"] = Proposal(rows, counted.facts.recent_popularity[rows])
        if "fresh" in wanted:
            rows = counted.fresh[: wanted["fresh"]]
            found["fresh"] = Proposal(rows, counted.facts.recent_popularity[rows])
        return found


def _actions(histories: Sequences, events: slice) -> NDArray[np.int64]:
    """Return the action rows of some events; 0 where nothing is known."""
    known = histories.actions
    return np.zeros(events.stop - events.start, dtype=np.int64) if known is None else known[events].astype(np.int64)


def item_numbers(items: pa.Table, names: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Return `[N + 1]` float32 values of numeric columns of an item table, NaN where unknown.

    Raises:
        ConfigError: there is no such column, or it does not hold numbers.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for name in names:
        if name not in items.column_names or not _is_number(items.schema.field(name).type):
            numeric = [field.name for field in items.schema if _is_number(field.type)]
            raise ConfigError(f"sources.numbers names {name!r}; numeric columns of the items are {numeric}")
        values = items.column(name).cast(pa.float32()).to_numpy(zero_copy_only=False)
        found[name] = np.concatenate([[np.nan], values]).astype(np.float32)
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _largest(scores: NDArray[np.float32], count: int) -> Proposal:
    """Return the `count` best item rows of `[N + 1]` scores, best first, ties by row; row 0 never."""
    count = min(count, len(scores) - 1)
    chosen = np.argpartition(-scores[1:], count - 1)[:count].astype(np.int64) + 1
    return best_of(chosen, scores[chosen], count)
