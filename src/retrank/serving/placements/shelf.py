"""The shelf: one document per tenant in the control store with the placements, the rules and who changed them.

Changed by compare-and-swap and by pure functions, like the desired state of bundles. Nobody is told: replicas look.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from retrank.contract.errors import FormatError, RetrankError, said_of
from retrank.contract.placement_rules import MAX_PLACEMENTS, MAX_RULES, PlacementDefaults, Rule
from retrank.serving.live_rules import House, LiveRule
from retrank.serving.stores.protocol import Control

MAX_AUDIT = 200
_ATTEMPTS = 20
_One = TypeVar("_One")


class ShelfRefused(RetrankError):  # noqa: N818  (a state of the shelf, not a mistake of the program)
    """What was asked does not fit what is there, or would change too much; nothing was changed."""


class Change(BaseModel):
    """One line of the audit trail: when (seconds since 1970), who, by which key, did what to which placement or rule.

    `by` is what the caller says; `key` is the id of the API key, None where no keys are asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: float
    by: str
    key: str | None
    action: Literal["put placement", "drop placement", "put rule", "drop rule"]
    id: str
    forced: bool = False


class Shelf(BaseModel):
    """The document. Placements and rules are in the order in which they were first put; audit is newest last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    placements: tuple[PlacementDefaults, ...] = ()
    rules: tuple[Rule, ...] = ()
    audit: tuple[Change, ...] = ()

    def house(self) -> House:
        """Return what requests read."""
        rules = tuple(LiveRule.of(rule) for rule in self.rules)
        return House({placement.name: placement for placement in self.placements}, rules)

    def with_rule(self, rule: Rule) -> "Shelf":
        """Put a rule in the place of the one with its id, or last.

        Raises:
            ShelfRefused: there are as many as there may be.
        """
        rules = {one.id: one for one in self.rules} | {rule.id: rule}
        return self.model_copy(update={"rules": _bounded(rules, MAX_RULES, "rules")})

    def without_rule(self, rule_id: str) -> "Shelf":
        """Drop a rule.

        Raises:
            ShelfRefused: there is none.
        """
        rules = {one.id: one for one in self.rules}
        _known(rule_id, rules, "rule")
        return self.model_copy(update={"rules": tuple(one for one in self.rules if one.id != rule_id)})

    def with_placement(self, placement: PlacementDefaults) -> "Shelf":
        """Put the defaults of a placement.

        Raises:
            ShelfRefused: there are as many as there may be.
        """
        placements = {one.name: one for one in self.placements} | {placement.name: placement}
        return self.model_copy(update={"placements": _bounded(placements, MAX_PLACEMENTS, "placements")})

    def without_placement(self, name: str) -> "Shelf":
        """Drop the defaults of a placement; its rules stay.

        Raises:
            ShelfRefused: there are none.
        """
        placements = {one.name: one for one in self.placements}
        _known(name, placements, "placement")
        return self.model_copy(update={"placements": tuple(one for one in self.placements if one.name != name)})

    def noted(self, change: Change) -> "Shelf":
        """Add a line to the audit trail; the oldest one makes room."""
        return self.model_copy(update={"audit": (*self.audit, change)[-MAX_AUDIT:]})

    def as_json(self) -> JsonValue:
        """Return what the store keeps."""
        said: JsonValue = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return said


Edit = Callable[[Shelf], Shelf]


class Kept(NamedTuple):
    """A shelf and the version of its document."""

    shelf: Shelf
    version: int


def name_of(tenant: str) -> str:
    """Return the name of a tenant's document."""
    return f"shelf/{tenant}"


def parse(value: JsonValue) -> Shelf:
    """Return a shelf; an empty one when nobody has put anything.

    Raises:
        FormatError: another version wrote it.
    """
    if value is None:
        return Shelf()
    try:
        return Shelf.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"]))
        raise FormatError(
            f"the placements in the control store do not fit this version: {where}: {said_of(first['msg'])}"
        ) from error


def read(control: Control, tenant: str) -> Kept:
    """Return a tenant's shelf."""
    document = control.document(name_of(tenant))
    return Kept(parse(document.value), document.version)


def edit(control: Control, tenant: str, change: Edit) -> Shelf:
    """Apply a change to the newest document; repeated when somebody else was quicker.

    Raises:
        ShelfRefused: the change does not fit, or others never stop changing the document.
        StoreFull: the document would become too long.
    """
    for _ in range(_ATTEMPTS):
        kept = read(control, tenant)
        after = change(kept.shelf)
        if control.write(name_of(tenant), after.as_json(), kept.version):
            return after
    raise ShelfRefused(f"others changed the placements {_ATTEMPTS} times meanwhile; try again")


def _bounded(found: Mapping[str, _One], most: int, what: str) -> tuple[_One, ...]:
    if len(found) > most:
        raise ShelfRefused(f"{most} {what} are kept, and there are as many; drop one first")
    return tuple(found.values())


def _known(name: str, found: Collection[str], what: str) -> None:
    if name not in found:
        shown = ", ".join(sorted(found)[:10]) or "none"
        raise ShelfRefused(f"no {what} {name!r}; there is: {shown}")
