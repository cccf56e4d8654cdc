"""What operators say about places where slates are shown: defaults that requests inherit, and rules about items."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from retrank.contract.api import RawId, SlateSize
from retrank.contract.filters import Filter
from retrank.contract.rules import one_given
from retrank.contract.scalars import WHOLE
from retrank.contract.slate_options import Diversity, Explore, Placement

MAX_RULES = 200
MAX_RULE_ITEMS = 200
MAX_PLACEMENTS = 100
MAX_PLACE = 200
MAX_STRENGTH = 10.0
RuleAction = Literal["pin", "boost", "bury", "block"]
RuleId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PlacementDefaults(_Message):
    """What a request that names this placement inherits, field by field, unless it has the field itself (null too).

    Attributes:
        name: the placement.
        k, filter, diversity, explore: as in `RecommendRequest`; None leaves the default of the API.
        max_explore: bound on the strength of exploration, the request's own included; 0 forbids it.
        note: for people.
    """

    name: Placement
    k: SlateSize | None = None
    filter: Filter | None = None
    diversity: Diversity | None = None
    explore: Explore | None = None
    max_explore: float | None = Field(default=None, ge=0.0, le=1.0, allow_inf_nan=False)
    note: str = Field(default="", max_length=200)


class Rule(_Message):
    """One thing that shall hold for slates, whatever the models think.

    Attributes:
        id: its name; a rule with the same id is replaced.
        action: `pin` puts items at a place, `boost` moves them up, `bury` lets them come last, `block` keeps them away.
        placement: where it holds; None is everywhere.
        items, filter: which items; exactly one of the two. A pin names items.
        place: for `pin`, where the first item stands; the others follow. What may not be shown makes room.
        strength: for `boost`, in standard deviations of the candidates' scores.
        starts_at, ends_at: when it holds, the end excluded; None is without bound.
        note: for people.
    """

    model_config = ConfigDict(json_schema_extra=one_given("items", "filter"))

    id: RuleId
    action: RuleAction
    placement: Placement | None = None
    items: Annotated[list[RawId], Field(min_length=1, max_length=MAX_RULE_ITEMS)] | None = None
    filter: Filter | None = None
    place: Annotated[int, Field(ge=1, le=MAX_PLACE), WHOLE] | None = None
    strength: float | None = Field(default=None, gt=0.0, le=MAX_STRENGTH, allow_inf_nan=False)
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    note: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.items is None) == (self.filter is None):
            raise ValueError("give items or filter, one of the two")
        if (self.action == "pin") != (self.place is not None):
            raise ValueError("place goes with action 'pin' and only with it")
        if self.action == "pin" and self.items is None:
            raise ValueError("a pin names its items, in order; a filter has none")
        if (self.action == "boost") != (self.strength is not None):
            raise ValueError("strength goes with action 'boost' and only with it")
        if self.starts_at is not None and self.ends_at is not None and not self.starts_at < self.ends_at:
            raise ValueError(f"ends_at {self.ends_at} is not after starts_at {self.starts_at}")
        return self
