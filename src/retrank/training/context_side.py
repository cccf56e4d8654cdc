"""What a run reads of the moment of a request: the store opened with it, and a model that is told its sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrank.config import accepts, instantiate
from retrank.contract.errors import ConfigError
from retrank.data.context_columns import in_context
from retrank.data.store import EventStore

_SETTING = "context"
"""Name of the group of settings, and of the setting of a model that holds the number of values of each field."""


def open_store(path: Path | str, config: Mapping[str, Any]) -> EventStore:
    """Open a store with the fields of the moment that a run is configured to read.

    Args:
        path: as of `EventStore.open`.
        config: settings of the run; those of a run from before there were such fields read none.

    Raises:
        SourceError: there is no store.
        ConfigError: it has not those fields.
    """
    store, settings = EventStore.open(path), config.get(_SETTING)
    return store if settings is None else in_context(store, instantiate(settings))


def told_sizes(config: dict[str, Any], store: EventStore) -> dict[str, Any]:
    """Return the configuration with a model that knows the fields of the store; the same without fields.

    Raises:
        ConfigError: the model cannot read them.
    """
    spec, model = store.context_spec, config["model"]
    if spec is None:
        return config
    if not accepts(model["_target_"], _SETTING):
        name = model["_target_"].rpartition(".")[2]
        raise ConfigError(f"context.fields is {list(spec.sizes)} and {name} reads no context; set context.fields=[]")
    return config | {"model": model | {_SETTING: spec.sizes}}
