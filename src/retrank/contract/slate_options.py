"""How a slate may be shaped by the one who asks: what counts as seen, how varied it is, how it explores."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrank.contract.context import MAX_NAME
from retrank.contract.filters import Attribute
from retrank.contract.rules import where
from retrank.contract.scalars import WHOLE, Scalar

MAX_CONTEXT = 32
MAX_CAPS = 4
MAX_SEEN_DAYS = 3_650

SeenType = Literal["impression", "click", "cart", "purchase", "rating", "custom"]
HISTORY_TYPES: tuple[SeenType, ...] = ("click", "cart", "purchase", "rating", "custom")
"""Events that are part of a history: something was done. An impression is not, and a dismissal only hides."""
NOT_HISTORY: tuple[str, ...] = ("impression", "dismiss")
"""Types of events in which nothing was done: neither a service nor a model reads them as an act."""
_Key = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Context = Annotated[dict[_Key, Scalar], Field(max_length=MAX_CONTEXT)]
Placement = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SeenPolicy(_Message):
    """Which items count as seen and stay away.

    Events in a bundle have the types that its manifest gives their actions (`actions`); those without an action count
    as every type but `impression`, and those without times as new, whatever `days` says.

    Attributes:
        types: events that make an item seen.
        days: how long it stays seen; None is as long as it is remembered.
    """

    types: Annotated[list[SeenType], Field(min_length=1, max_length=6)] = list(HISTORY_TYPES)
    days: Annotated[int, Field(ge=1, le=MAX_SEEN_DAYS), WHOLE] | None = None


class Diversity(_Message):
    """How items of a slate keep out of each other's way.

    Attributes:
        mode: `mmr` weighs relevance against likeness to what stands above, `cap` bounds items with the same attribute.
        strength: weight of variety in `mmr`, 0..1; 0 is plain order.
        caps: for `cap`, attribute -> how many items of one value a slate may hold; an item without the attribute is
            free. A full slate comes first: when too few candidates keep to the caps, capped ones fill it, and
            `degraded.reasons` says `cap_exceeded`. What rules of operators put on the slate is not capped.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                where("mode", "cap", {"required": ["caps"], "properties": {"caps": {"minProperties": 1}}}),
                {"properties": {"mode": {"enum": ["none", "mmr"]}, "caps": {"maxProperties": 0}}},
            ]
        }
    )

    mode: Literal["none", "mmr", "cap"] = "none"
    strength: float = Field(default=0.3, ge=0.0, le=1.0, allow_inf_nan=False)
    caps: Annotated[dict[Attribute, Annotated[int, Field(ge=1, le=200), WHOLE]], Field(max_length=MAX_CAPS)] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.mode == "cap") != bool(self.caps):
            raise ValueError("caps go with mode 'cap' and only with it")
        return self


class Explore(_Message):
    """How a slate departs from plain order, so that a later model can learn what was not known.

    Attributes:
        policy: `epsilon` takes a uniformly random item instead of the best with that probability, at each position;
            `softmax` draws each position by Plackett-Luce.
        strength: the epsilon, or the temperature in standard deviations of the candidates' scores; 0 is plain order.
        seed: makes the draw repeatable; None draws anew.
    """

    policy: Literal["none", "epsilon", "softmax"] = "none"
    strength: float = Field(default=0.1, ge=0.0, le=1.0, allow_inf_nan=False)
    seed: Annotated[int, Field(ge=0, lt=1 << 63), WHOLE] | None = None
