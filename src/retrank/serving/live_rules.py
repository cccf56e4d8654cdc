"""Rules as a request meets them: those that hold at its placement and moment, in the rows of one bundle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retrank.contract.placement_rules import PlacementDefaults, Rule
from retrank.contract.vocab import Vocab
from retrank.serving.item_columns import ItemColumns, Mask, Rows
from retrank.serving.new_rows import NewRows, rows_of
from retrank.serving.row_changes import RowChanges
from retrank.serving.sieve import sieve

Asked = TypeVar("Asked", bound=BaseModel)
_INHERITED = ("k", "filter", "diversity", "explore")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class LiveRule:
    """A rule that replicas follow; compared by identity, so that what was made of it can be kept beside it.

    Attributes:
        said: the rule.
        starts, ends: when it holds, seconds since 1970; the end excluded.
    """

    said: Rule
    starts: float
    ends: float

    @classmethod
    def of(cls, rule: Rule) -> "LiveRule":
        """Read the times of a rule."""
        starts = -math.inf if rule.starts_at is None else rule.starts_at.timestamp()
        return cls(rule, starts, math.inf if rule.ends_at is None else rule.ends_at.timestamp())

    def holds(self, placement: str | None, now: float) -> bool:
        """Tell whether it holds at a placement, at a moment in seconds since 1970."""
        return self.said.placement in (None, placement) and self.starts <= now < self.ends


Rules = tuple[LiveRule, ...]


@dataclass(frozen=True, slots=True)
class House:
    """Everything that one tenant's operators said about placements.

    Attributes:
        placements: defaults by placement.
        rules: in the order in which they apply.
        known: whether what they said could be read; nothing of it is followed where not.
    """

    placements: Mapping[str, PlacementDefaults] = field(default_factory=dict)
    rules: Rules = ()
    known: bool = True

    def rules_at(self, placement: str | None, now: float) -> Rules | None:
        """Return the rules that hold; None where they are not known."""
        if not self.known:
            return None
        return tuple(rule for rule in self.rules if rule.holds(placement, now)) if self.rules else ()

    def completed(self, asked: Asked) -> Asked:
        """Return a request with what its placement says about the fields that it does not have itself."""
        said = self.placements.get(getattr(asked, "placement", None) or "") if self.placements else None
        if said is None:
            return asked
        fields, given = type(asked).model_fields, asked.model_fields_set
        update = {name: getattr(said, name) for name in _INHERITED if name in fields and name not in given}
        update = {name: value for name, value in update.items() if value is not None}
        explore = update.get("explore", getattr(asked, "explore", None))
        if explore is not None and said.max_explore is not None and explore.strength > said.max_explore:
            update["explore"] = explore.model_copy(update={"strength": said.max_explore})
        return asked.model_copy(update=update) if update else asked


NO_HOUSE = House()
UNREAD = House(known=False)


class Pins(NamedTuple):
    """P items that stand at a place of their own.

    Attributes:
        rows: `[P]` int64 item rows.
        sources: `[P]` int64 bit masks.
        places: `[P]` int64 places, from 0, increasing.
        k: places of the whole slate.
    """

    rows: NDArray[np.int64]
    sources: NDArray[np.int64]
    places: NDArray[np.int64]
    k: int


class RuleRows:
    """Which items of one bundle a rule is about."""

    def __init__(self, items: Vocab, columns: ItemColumns) -> None:
        """Look rules up in a bundle; rows and test of a rule are kept as long as the rule is."""
        self._items, self._columns = items, columns
        self._rows: WeakKeyDictionary[LiveRule, Rows] = WeakKeyDictionary()
        self._tests: WeakKeyDictionary[LiveRule, tuple[RowChanges, Mask]] = WeakKeyDictionary()

    def named(self, rule: LiveRule, new: NewRows | None = None) -> Rows:
        """Return the rows of the items that a rule names, in its order; unknown ones are left out."""
        if new is not None and any(item in new.places for item in rule.said.items or ()):
            return rows_of(new, self._items, dict.fromkeys(rule.said.items or ()))
        found = self._rows.get(rule)
        if found is None:
            distinct = list(dict.fromkeys(rule.said.items or ()))
            found = self._rows[rule] = np.array(
                [row for item in distinct if (row := self._items.row(item))], dtype=np.int64
            )
        return found

    def test(self, rule: LiveRule, changes: RowChanges) -> Mask:
        """Return the test whether an item is meant; compiled once per rule and state of the catalogue."""
        kept = self._tests.get(rule)
        if kept is None or kept[0] is not changes:
            kept = self._tests[rule] = changes, self._compiled(rule, changes)
        return kept[1]

    def _compiled(self, rule: LiveRule, changes: RowChanges) -> Mask:
        if rule.said.filter is not None:
            return sieve(rule.said.filter, self._columns, changes)
        named = self.named(rule, changes.new)
        return lambda rows: np.isin(rows, named)
