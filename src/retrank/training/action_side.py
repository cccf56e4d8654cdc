"""How many kinds of events a model tells apart: all that the store has, or none."""

from retrank.contract.errors import ConfigError
from retrank.data.store import EventStore
from retrank.training.settle import FROM_DATA


def num_actions_of(store: EventStore, given: int | str, setting: str) -> int:
    """Return the number of action rows of a model that is to be trained on a store.

    Args:
        store: the data.
        given: a number, or `from_data` for the number of the store.
        setting: dotted name of the setting, for messages.

    Raises:
        ConfigError: a number that is neither 0 nor that of the store: rows would mean other actions, or none.
    """
    names = store.facts.actions
    if given == FROM_DATA:
        return len(names)
    if given not in (0, len(names)):
        told = f"{len(names)} actions ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else "none"
        raise ConfigError(f"{setting} is {given} and the store has {told}; expected 0, {len(names)} or {FROM_DATA}")
    return int(given)
