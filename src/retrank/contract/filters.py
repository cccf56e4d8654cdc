"""Filter expressions: what a caller may demand of the attributes of every item on a slate.

An expression is a tree of JSON objects with exactly one key each:

    {"all": [...]}   {"any": [...]}   {"not": {...}}
    {"eq": {"attribute": "brand", "value": "acme"}}
    {"in": {"attribute": "size", "values": ["s", "m"]}}
    {"range": {"attribute": "price", "gte": 5, "lt": 20}}
    {"exists": {"attribute": "price"}}

It is data, never code: parsed by pydantic, bounded in depth and terms, and compiled to array operations. An item that
lacks the attribute satisfies no `eq`, `in`, `range` or `exists`; `not` turns that round. Values compare as in JSON: a
number with a number, a text with a text, true and false with themselves.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrank.contract.rules import one_given, some_given
from retrank.contract.scalars import MAX_TEXT, Scalar

MAX_DEPTH = 5
MAX_TERMS = 64
MAX_VALUES = 256

Attribute = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Equals(_Message):
    """The attribute has this value."""

    attribute: Attribute
    value: Scalar


class OneOf(_Message):
    """The attribute has one of these values."""

    attribute: Attribute
    values: Annotated[list[Scalar], Field(min_length=1, max_length=MAX_VALUES)]


class Range(_Message):
    """The attribute is a number within the bounds that are given; at least one."""

    model_config = ConfigDict(json_schema_extra=some_given("gt", "gte", "lt", "lte"))

    attribute: Attribute
    gt: Number | None = None
    gte: Number | None = None
    lt: Number | None = None
    lte: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gt is self.gte is self.lt is self.lte is None:
            raise ValueError("no bound; give gt, gte, lt or lte")
        lowest = max((bound for bound in (self.gt, self.gte) if bound is not None), default=-math.inf)
        highest = min((bound for bound in (self.lt, self.lte) if bound is not None), default=math.inf)
        strict = lowest == self.gt or highest == self.lt
        if lowest > highest or (lowest == highest and strict):
            raise ValueError(f"nothing lies above {lowest:g} and below {highest:g}; are the bounds turned round?")
        return self


class Exists(_Message):
    """The attribute has a value."""

    attribute: Attribute


Term = Equals | OneOf | Range | Exists


class Filter(_Message):
    """One node of an expression; exactly one field is set. Depth counts nodes from the root, terms count leaves."""

    model_config = ConfigDict(json_schema_extra=one_given("all", "any", "not", "eq", "in", "range", "exists"))

    all: Annotated[list["Filter"], Field(min_length=1, max_length=MAX_TERMS)] | None = None
    any: Annotated[list["Filter"], Field(min_length=1, max_length=MAX_TERMS)] | None = None
    not_: "Filter | None" = Field(default=None, alias="not")
    eq: Equals | None = None
    in_: OneOf | None = Field(default=None, alias="in")
    range: Range | None = None
    exists: Exists | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{len(given)} operators in one object, expected exactly one of all any not eq in range exists"
            )
        if self.depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}; flatten the expression")
        if sum(1 for _ in self.terms()) > MAX_TERMS:
            raise ValueError(f"more than {MAX_TERMS} terms; use `in` for many values of one attribute")
        return self

    @property
    def term(self) -> Term | None:
        """The leaf this node is; None for all, any and not."""
        return self.eq or self.in_ or self.range or self.exists

    @property
    def parts(self) -> list["Filter"]:
        """The nodes directly below."""
        return [*(self.all or ()), *(self.any or ()), *((self.not_,) if self.not_ is not None else ())]

    @property
    def depth(self) -> int:
        """Nodes on the longest way down, 1 for a leaf."""
        return 1 + max((part.depth for part in self.parts), default=0)

    def terms(self) -> Iterator[Term]:
        """Yield the leaves from left to right."""
        if self.term is not None:
            yield self.term
        for part in self.parts:
            yield from part.terms()


def satisfies(attributes: Mapping[str, Any], wanted: Filter) -> bool:
    """Tell whether one item satisfies an expression: the readable definition, oracle of every faster way.

    Args:
        attributes: the item's, by name; a missing one or None means it has none.
        wanted: the expression.
    """
    if wanted.all is not None:
        return all(satisfies(attributes, part) for part in wanted.all)
    if wanted.any is not None:
        return any(satisfies(attributes, part) for part in wanted.any)
    if wanted.not_ is not None:
        return not satisfies(attributes, wanted.not_)
    assert wanted.term is not None, "a node has exactly one operator"
    return meets(attributes.get(wanted.term.attribute), wanted.term)


def meets(value: Any, term: Term) -> bool:
    """Tell whether one value, None when the item has none, meets one term."""
    if value is None:
        return False
    if isinstance(term, Equals):
        return same(value, term.value)
    if isinstance(term, OneOf):
        return any(same(value, one) for one in term.values)
    if isinstance(term, Range):
        return is_number(value) and _within(float(value), term)
    return True


def same(left: Any, right: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0, and true is no number."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def is_number(value: Any) -> bool:
    """Tell numbers from everything else, true and false included."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(number: float, term: Range) -> bool:
    above = (term.gt is None or number > term.gt) and (term.gte is None or number >= term.gte)
    return above and (term.lt is None or number < term.lt) and (term.lte is None or number <= term.lte)
