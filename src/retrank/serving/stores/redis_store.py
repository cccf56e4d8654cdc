"""The state store of production: Redis or Valkey, alone or as a Cluster."""

from retrank.serving.stores.redis_connection import Connection
from retrank.serving.stores.redis_control import RedisControl
from retrank.serving.stores.redis_overlay import RedisOverlay
from retrank.serving.stores.redis_profiles import RedisProfiles
from retrank.serving.stores.settings import StateSettings, url_of


class RedisStore(RedisProfiles, RedisOverlay, RedisControl):
    """A `StateStore` behind redis://, rediss:// or redis+cluster://; connected when first used, safe for threads."""

    def __init__(self, settings: StateSettings) -> None:
        """Name the place.

        Raises:
            ConfigError: the URL cannot be read.
        """
        connection = Connection(url_of(settings), settings.timeout_s)
        RedisProfiles.__init__(self, connection, settings)
        RedisOverlay.__init__(self, connection, settings)
        RedisControl.__init__(self, connection, settings)

    def ping(self) -> None:
        """Return when it answers."""
        self._connection.ping()

    def close(self) -> None:
        """Let go of connections."""
        self._connection.close()
