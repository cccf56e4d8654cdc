"""Backends that every promise of a state store is tested on."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import StateStore
from retrank.serving.stores.settings import StateSettings


@dataclass
class Backend:
    """A place to keep state; every `open` is another client of the same place."""

    url: str
    opened: list[StateStore] = field(default_factory=list)

    def settings(self, **limits: float) -> StateSettings:
        """Return settings for this place; the time-out leaves room for a machine that is busy with other things."""
        return StateSettings.model_validate({"url": SecretStr(self.url), "timeout_s": 10.0, **limits})

    def open(self, **limits: float) -> StateStore:
        store = open_store(self.settings(**limits))
        self.opened.append(store)
        return store

    def close(self) -> None:
        for store in self.opened:
            store.close()
