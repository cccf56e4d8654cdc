"""What a model is asked to predict after an event: the next event, or what later baskets bring.

Events are named by their absolute position in the flat columns of `Sequences`; -1 says "no target".
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.moments import DAY_US
from retrank.contract.sequences import Sequences

Positions = NDArray[np.int64]


class Chooser(Protocol):
    """Targets in one set of histories."""

    @property
    def always_next(self) -> bool:
        """Whether every event up to a user's last answerable one has one target, the event after it; then nobody
        needs to ask."""
        ...

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """`[E]`: events that can have a target."""
        ...

    def choose(self, events: Positions, random: np.random.Generator) -> Positions:
        """Return `[T, K]` positions of target events for `[T]` events; -1 = none."""
        ...


class Targets(Protocol):
    """A rule for targets, before it has seen any history."""

    def prepare(self, histories: Sequences) -> Chooser:
        """Index the histories once."""
        ...


@dataclass(frozen=True)
class NextEvent:
    """The next event of the same user: one target per event but the newest."""

    def prepare(self, histories: Sequences) -> Chooser:
        """Mark every event that has a successor."""
        answerable = np.ones(len(histories.item_rows), dtype=bool)
        answerable[histories.offsets[1:][histories.lengths > 0] - 1] = False
        return _Next(answerable)


@dataclass(frozen=True)
class _Next:
    answerable: NDArray[np.bool_]
    always_next: bool = True

    def choose(self, events: Positions, random: np.random.Generator) -> Positions:  # noqa: ARG002  (the protocol's)
        return np.where(self.answerable[events], events + 1, -1)[:, None]


@dataclass(frozen=True)
class LaterBaskets:
    """New items of later baskets: for shops, where a basket has no order and old items are not asked for.

    A basket is all events of a user at one time. Only its last event is supervised, as a query is asked between baskets
    and never inside one. Targets are drawn with replacement from the user's later events whose item is bought for the
    first time, which is what evaluation asks for once seen items are removed.

    Attributes:
        num_targets: K, targets drawn per basket and epoch, >= 1.
        half_life_days: a target is kept with probability `floor + (1 - floor) * 0.5 ** (age / half_life_days)`, age
            counted back from the newest event of all users, so that the model learns what is bought now; > 0.
        floor: probability that the oldest targets are kept, 0 < floor <= 1; 1 = no preference for recent ones.

    Source: Pancha et al. 2022, PinnerFormer (arXiv 2205.04507), dense all-action loss; the choice by recency is ours.
    """

    num_targets: int = 16
    half_life_days: float = 20.0
    floor: float = 0.02

    def __post_init__(self) -> None:
        """Refuse settings that choose nothing.

        Raises:
            ConfigError: a value is out of range.
        """
        if self.num_targets < 1 or self.half_life_days <= 0 or not 0 < self.floor <= 1:
            raise ConfigError(f"batches.targets: {self}; num_targets >= 1, half_life_days > 0, 0 < floor <= 1 needed")

    def prepare(self, histories: Sequences) -> Chooser:
        """Find baskets and first purchases.

        Raises:
            DataError: the histories have no times.
        """
        if histories.times is None:
            raise DataError("targets from later baskets need event times and this store has none; use NextEvent")
        owners = np.repeat(np.arange(len(histories)), histories.lengths)
        ends = _basket_ends(owners, histories.times)
        first_times = _first_purchases(owners, histories.item_rows)
        low = np.searchsorted(first_times, ends)
        high = np.searchsorted(first_times, histories.offsets[1:][owners])
        is_last_of_basket = ends == np.arange(len(owners)) + 1
        age_days = (histories.times.max(initial=0) - histories.times) / DAY_US
        keep = self.floor + (1 - self.floor) * 0.5 ** (age_days / self.half_life_days)
        return _Later(is_last_of_basket & (high > low), low, high, first_times, keep, self.num_targets)


@dataclass(frozen=True)
class _Later:
    """Event e may take targets `first_times[low[e]:high[e]]`, each kept with probability `keep`."""

    answerable: NDArray[np.bool_]
    low: Positions
    high: Positions
    first_times: Positions
    keep: NDArray[np.float64]
    num_targets: int
    always_next: bool = False

    def choose(self, events: Positions, random: np.random.Generator) -> Positions:
        chosen = np.full((len(events), self.num_targets), -1, dtype=np.int64)
        asked = np.flatnonzero(self.answerable[events])
        low, high = self.low[events[asked], None], self.high[events[asked], None]
        drawn = self.first_times[random.integers(low, high, (len(asked), self.num_targets))]
        kept = random.random(drawn.shape) < self.keep[drawn]
        chosen[asked] = np.where(kept, drawn, -1)
        return chosen


def _basket_ends(owners: Positions, times: NDArray[np.int64]) -> Positions:
    """Position after the last event of each event's basket."""
    starts = np.flatnonzero(np.r_[True, (owners[1:] != owners[:-1]) | (times[1:] != times[:-1])])
    sizes = np.diff(np.r_[starts, len(owners)])
    ends: Positions = np.repeat(starts + sizes, sizes)
    return ends


def _first_purchases(owners: Positions, item_rows: NDArray[np.int32]) -> Positions:
    """Positions of events whose item the user had not met before, ascending."""
    pairs = owners * (int(item_rows.max(initial=0)) + 1) + item_rows
    return np.sort(np.unique(pairs, return_index=True)[1])
