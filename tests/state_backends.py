"""Backends that every promise of a state store is tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr
from redis import Redis
from redis_processes import RedisProcess

from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import StateStore
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
            with Redis(port=server.port) as client:
                client.flushall()
        url = servers[0].url
        return cls(url if len(servers) == 1 else url.replace("redis:", "redis+cluster:").removesuffix("/0"))

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
