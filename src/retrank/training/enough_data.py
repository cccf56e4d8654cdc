"""Data that leaves nothing to learn or to select by is refused before anything is trained, with what to do."""

from collections.abc import Mapping
from typing import Any

from retrank.contract.errors import DataError
from retrank.data.splits import GlobalTemporal, Split
from retrank.data.store import EventStore

_FEWEST_ITEMS = 2


def check_enough(store: EventStore, split: Split, settings: Mapping[str, Any]) -> list[str]:
    """Refuse a store of one item and a split without validation or test cases.

    Args:
        store: the data.
        split: of the store.
        settings: the group `split` of the configuration.

    Returns:
        warnings, for what can be trained on and hardly makes sense.

    Raises:
        DataError: there is nothing to choose between, or nobody to evaluate on.
    """
    facts = store.facts
    if store.num_items < _FEWEST_ITEMS:
        raise DataError(
            f"{store.directory}: {store.num_items} item in {facts.num_events:,} events, nothing to choose between; "
            f"is the column of items (data.columns.item) the right one? Expected at least {_FEWEST_ITEMS} items"
        )
    temporal = settings.get("_target_") == f"{GlobalTemporal.__module__}.{GlobalTemporal.__qualname__}"
    for name, cases in (("validation", split.validation), ("test", split.test)):
        if len(cases) == 0:
            raise DataError(f"no cases to evaluate: {_nobody(name, temporal=temporal)} ({_counted(store)})")
    lonely = facts.num_users == 1
    return [f"warning: {_counted(store)}; is the column of users (data.columns.user) the right one?"] if lonely else []


def _nobody(name: str, *, temporal: bool) -> str:
    if temporal:
        return (
            f"nobody with events before the {name} window met an item in it that was new to them; raise "
            f"split.{name}_share, or take split=leave_last_out"
        )
    which = "last" if name == "test" else "second-last"
    return (
        f"nobody with three events or more has a {which} event with an item that was new to them; ingest more events, "
        "or events of more people"
    )


def _counted(store: EventStore) -> str:
    facts = store.facts
    users = f"{facts.num_users:,} user{'' if facts.num_users == 1 else 's'}"
    return f"the store has {users}, {store.num_items:,} items and {facts.num_events:,} events"
