"""What the data calls an act, and which type of live event that is: a `buy` of the CSV is a `purchase` of the service.

A model learns the names of the data, while a service is told event types. This is the one place where they meet: export
seals a type for every action, serving reads live events by it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.errors import ConfigError
from retrank.contract.slate_options import NOT_HISTORY, SeenType

TYPES: tuple[SeenType, ...] = get_args(SeenType)
UNNAMED: SeenType = "custom"
"""Type of an action that no event type stands for; live, it is a custom event of that name."""
BY_NAME: Mapping[SeenType, tuple[str, ...]] = {
    "impression": ("impression", "exposure", "shown"),
    "click": (
        "click", "clicked", "view", "viewed", "open", "opened", "read", "visit", "watch", "watched", "play", "played",
        "listen", "listened", "detail", "page_view", "pageview", "product_view", "view_item", "content_view",
    ),
    "cart": ("cart", "add_to_cart", "addtocart", "carted", "basket", "add_to_basket"),
    "purchase": ("purchase", "purchased", "buy", "bought", "order", "ordered", "transaction", "sale", "paid"),
    "rating": ("rating", "rate", "rated", "like", "liked", "review", "reviewed", "star", "starred"),
}  # fmt: skip
"""Names that say by themselves what they are; case, spaces and dashes do not matter."""
_TYPE_OF: dict[str, SeenType] = {name: kind for kind, names in BY_NAME.items() for name in names}
_APART = re.compile(r"[^a-z0-9]+")


class ActionFacts(BaseModel):
    """One action of the data: its name there, the type of live event it is, and how many events it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    event_type: SeenType
    num_events: int = Field(ge=0)


def type_by_name(action: str) -> SeenType:
    """Return the event type that the name of an action says, `custom` if it says none."""
    return _TYPE_OF.get(_APART.sub("_", action.casefold()).strip("_"), UNNAMED)


def action_facts(
    names: Sequence[str], actions: NDArray[np.integer] | None, said: Mapping[str, str]
) -> list[ActionFacts]:
    """Return what is to be sealed of the actions, in the order of their rows.

    Args:
        names: of the action rows 1..A.
        actions: `[E]` action rows of all events, 0 = unknown; None = all unknown.
        said: event types of actions whose name does not say it, or says it wrong.

    Raises:
        ConfigError: it names an action that the data has not, or no event type.
    """
    unknown = sorted(set(said) - set(names))
    if unknown:
        raise ConfigError(f"sealing.action_types names {unknown}; the actions of the data are {list(names)}")
    kinds: dict[str, SeenType] = {kind: kind for kind in TYPES}
    strange = sorted(f"{name}: {kind}" for name, kind in said.items() if kind not in kinds)
    if strange:
        raise ConfigError(f"sealing.action_types says {', '.join(strange)}; expected one of {', '.join(TYPES)}")
    counts = np.bincount(np.zeros(0, np.int64) if actions is None else actions, minlength=len(names) + 1)
    return [
        ActionFacts(
            name=name,
            event_type=kinds[said[name]] if name in said else type_by_name(name),
            num_events=int(counts[row]),
        )
        for row, name in enumerate(names, start=1)
    ]


class Actions:
    """The action rows 1..A and what they are live."""

    def __init__(self, facts: Sequence[ActionFacts]) -> None:
        """Number the actions; `all_acts` says whether in each of them something was done.

        Args:
            facts: of the action rows 1..A.
        """
        self.facts = tuple(facts)
        self.all_acts = all(one.event_type not in NOT_HISTORY for one in facts)
        self._rows = {one.name: row for row, one in enumerate(facts, start=1)}
        self._custom = self._rows.get(UNNAMED, 0)  # data that came from events of a service calls all of them so
        for kind in TYPES:
            if kind != UNNAMED:
                self._rows.pop(kind, None)
                if read_as := self.read_as(kind):
                    self._rows[kind] = self._row_of(read_as)

    def row(self, kind: str) -> int:
        """Return the row of a live event: of its type, or of the name of a custom event; 0 = nothing learned of it."""
        return self._rows.get(kind, 0 if kind in TYPES else self._custom)

    def read_as(self, kind: SeenType) -> ActionFacts | None:
        """Return the action a live event of some type is read as: the one called like the type, else the commonest."""
        found = [one for one in self.facts if one.event_type == kind]
        return max(found, key=lambda one: (one.name == kind, one.num_events), default=None)

    def of_types(self, kinds: Collection[str]) -> NDArray[np.bool_]:
        """Return `[A + 1]`, which action rows are of some types; row 0, of which nothing is known, is all but shown."""
        acts = bool(set(kinds) - {"impression"})
        return np.array([acts, *(one.event_type in kinds for one in self.facts)], dtype=bool)

    def _row_of(self, facts: ActionFacts) -> int:
        return self.facts.index(facts) + 1


def told(actions: Actions) -> Iterable[str]:
    """Yield a line per action, and what live events no action stands for, for people."""
    for one in actions.facts:
        if {one.name, one.event_type} & {*NOT_HISTORY}:
            yield (
                f"WARNING: action {one.name} ({one.num_events:,} events) is no act, and models learn to predict it, "
                f"as if it were one; ingest with 'data.columns.leave_out_actions=[{one.name}]'"
            )
        elif one.event_type != UNNAMED:
            yield f"action {one.name} -> {one.event_type}, {one.num_events:,} events"
        else:
            yield (
                f"WARNING: action {one.name} ({one.num_events:,} events) has no event type; a live event is read as it "
                f"only if it is custom and named {one.name!r}, or with 'sealing.action_types={{{one.name}: TYPE}}'"
            )
    for kind in TYPES:
        several = [one.name for one in actions.facts if one.event_type == kind]
        if kind != UNNAMED and len(several) > 1 and (chosen := actions.read_as(kind)):
            yield f"a live {kind} is read as {chosen.name}, of {', '.join(several)}"
    lacking = [kind for kind in TYPES if kind not in ("impression", UNNAMED) and actions.read_as(kind) is None]
    if actions.facts and lacking:
        yield (
            f"no action of this data is of type {', '.join(lacking)}: a live event of such a type tells the model that "
            "something was done with the item, not what"
        )
