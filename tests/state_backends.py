"""Backends that every promise of a state store is tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue, SecretStr
from redis import Redis
from redis_processes import RedisProcess

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import PersonEvent, StateStore
from retrank.serving.stores.settings import StateSettings


@dataclass
class Backend:
    """A place to keep state; every `open` is another client of the same place."""

    url: str
    opened: list[StateStore] = field(default_factory=list)

    @classmethod
    def of_redis(cls, servers: Sequence[RedisProcess]) -> "Backend":
        """Return an emptied server, or an emptied Cluster when there are several."""
        for server in servers:
            with Redis(host="127.0.0.1", port=server.port) as client:
                client.flushall()
        return cls(servers[0].url if len(servers) == 1 else servers[0].cluster_url)

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


def apply_one_by_one(settings: StateSettings, events: list[PersonEvent], now: float) -> list[bool]:
    """Apply events one call each, as a process of its own would; tell which were new."""
    store = open_store(settings)
    try:
        return [flag for event in events for flag in store.apply("shop", [event], now)]
    finally:
        store.close()


def write_numbers(settings: StateSettings, numbers: list[int]) -> None:
    """Append numbers to a shared document, each as often as it takes."""
    store = open_store(settings)
    try:
        for number in numbers:
            while True:
                before = store.document("numbers")
                value: JsonValue = [*before.value, number] if isinstance(before.value, list) else [number]
                if store.write("numbers", value, before.version):
                    break
    finally:
        store.close()
