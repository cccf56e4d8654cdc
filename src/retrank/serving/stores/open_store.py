"""From settings to a store."""

from pathlib import Path

from retrank.contract.errors import ConfigError
from retrank.serving.stores.protocol import StateStore
from retrank.serving.stores.settings import StateSettings, url_of
from retrank.serving.stores.sqlite_store import SqliteStore

_REDIS = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")


def open_store(settings: StateSettings) -> StateStore:
    """Return the store that the URL names. Nothing is connected yet: `ping` does, as does the first use.

    Raises:
        ConfigError: the URL names no store that is known; the message does not repeat the URL.
    """
    url = url_of(settings)
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteStore(Path(rest), settings)
    if scheme in _REDIS:
        from retrank.serving.stores.redis_store import RedisStore  # noqa: PLC0415  (loaded only where it is used)

        return RedisStore(settings)
    raise ConfigError(
        f"state url of kind {scheme[:20]!r}, expected sqlite:PATH, redis://, rediss:// or redis+cluster://"
    )
