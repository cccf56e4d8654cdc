"""Which column of a source means what: the column mapping of the YAML files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retrank.contract.errors import ConfigError
from retrank.data.readers.protocol import (
    ACTION,
    ACTION_NAME,
    ATTRIBUTE,
    CONTEXT_PREFIX,
    ITEM,
    TIME,
    USER,
    VALUE,
    VISITOR,
)
from retrank.data.readers.times import check_time_unit

_SAFE_NAME = re.compile(r"[A-Za-z0-9_]+")

Column = str | int
"""A column's name, or its number from 1."""


def setting_of(role: str) -> str:
    """Return the dotted name of the setting that maps a role of events, such as `data.columns.user`."""
    for prefix, group in ((CONTEXT_PREFIX, "context"), (ATTRIBUTE, "attributes")):
        if role.startswith(prefix):
            return f"data.columns.{group}.{role.removeprefix(prefix)}"
    return f"data.columns.{role.removesuffix('_id')}"


@dataclass(frozen=True)
class Columns:
    """Mapping from roles to columns of the source, by name or by number from 1.

    Attributes:
        user: who did it, by the id that requests will name.
        item: to what.
        time: when; None keeps the order of the source.
        time_unit: seconds, milliseconds, microseconds, iso (ISO 8601, UTC when no zone is given), or a strptime format
            such as "%d/%m/%Y %H:%M". Columns with a timestamp type ignore it.
        action: what was done (view, purchase, ...).
        value: how much (rating, money, ...).
        context: name -> column; kept per event, as text unless the name is in `numbers`.
        attributes: name -> column; describes the item, the first known value counts.
        numbers: names of context and attribute columns to be read as numbers.
        visitor: who did it where `user` is empty: a cookie, a session. Such histories are learned from like any other,
            but no request can name them: a visitor is another person than the user with the same id, and not sealed.
        action_name: what was done by its own name, where `action` is `custom` and there is one, as in our events.
        leave_out_actions: actions whose rows are left out and counted, such as impressions: nobody did anything there.
    """

    user: Column
    item: Column
    time: Column | None = None
    time_unit: str = "seconds"
    action: Column | None = None
    value: Column | None = None
    context: Mapping[str, Column] = field(default_factory=dict)
    attributes: Mapping[str, Column] = field(default_factory=dict)
    numbers: Sequence[str] = ()
    visitor: Column | None = None
    leave_out_actions: Sequence[str] = ()
    action_name: Column | None = None

    def __post_init__(self) -> None:
        """Refuse names that cannot be part of a file name, unknown time units, stray numbers and actions unread.

        Raises:
            ConfigError: naming the key.
        """
        check_time_unit(self.time_unit)
        for name in self.context:
            if not _SAFE_NAME.fullmatch(name):
                raise ConfigError(f"data.columns.context: name {name!r}; expected letters, digits and _ only")
        if "item_id" in self.attributes:
            raise ConfigError("data.columns.attributes: the name 'item_id' is taken; choose another")
        unknown = set(self.numbers) - set(self.context) - set(self.attributes)
        if unknown:
            raise ConfigError(f"data.columns.numbers: {sorted(unknown)} are neither in context nor in attributes")
        if self.leave_out_actions and self.action is None:
            raise ConfigError(
                f"data.columns.leave_out_actions is {list(self.leave_out_actions)} and data.columns.action is null; "
                "name the column that says what was done"
            )

        if self.action_name is not None and self.action is None:
            raise ConfigError(
                "data.columns.action_name names custom actions and data.columns.action is null; name both"
            )

    def roles(self) -> dict[str, Column]:
        """Return the mapped columns as role -> source column; roles are the batch column names of `protocol`."""
        optional = {VISITOR: self.visitor, TIME: self.time, ACTION: self.action, VALUE: self.value}
        optional[ACTION_NAME] = self.action_name
        roles: dict[str, Column] = {USER: self.user, ITEM: self.item}
        roles.update({role: column for role, column in optional.items() if column is not None})
        roles.update({CONTEXT_PREFIX + name: column for name, column in self.context.items()})
        roles.update({ATTRIBUTE + name: column for name, column in self.attributes.items()})
        return roles

    def named(self, role: str) -> str:
        """Return a role as people know it: with its column in the source, where that is called otherwise."""
        column = self.roles()[role]
        return role if column == role else f"{role} (column {column!r})"

    def is_number(self, role: str) -> bool:
        """Return whether a role is to be read as a number."""
        return role == VALUE or role.removeprefix(CONTEXT_PREFIX).removeprefix(ATTRIBUTE) in self.numbers
