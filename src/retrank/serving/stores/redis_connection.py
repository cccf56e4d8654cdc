"""Talking to Redis or Valkey, alone or as a Cluster: pipelines, short time-outs, errors without secrets."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from retrank.contract.errors import ConfigError
from retrank.serving.stores.protocol import StoreUnavailable
from retrank.serving.stores.redis_scripts import ALL, Script

_CLUSTER = "+cluster"


class Call(NamedTuple):
    """A command, or a script with its keys and arguments."""

    command: Script | str
    keys: tuple[str, ...]
    arguments: tuple[str | int | float, ...] = ()

    def words(self) -> tuple[Any, ...]:
        """Return what is sent."""
        if isinstance(self.command, Script):
            return "EVALSHA", self.command.sha, len(self.keys), *self.keys, *self.arguments
        return self.command, *self.keys, *self.arguments


class Connection:
    """A pool of connections to one place; connects when first used, and again after the place was away."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Name the place.

        Raises:
            ConfigError: the URL cannot be read; it is not repeated, as it may hold a password.
        """
        self._cluster = _CLUSTER in url.partition(":")[0]
        self._url = url.replace(_CLUSTER, "", 1) if self._cluster else url
        try:
            parse_url(self._url)  # type: ignore[no-untyped-call]  # redis-py has no types here
            parts = urlsplit(self._url)
            self._place = f"{parts.hostname or parts.path}:{parts.port or 6379}"
        except ValueError:
            raise ConfigError(
                "state url: expected redis://[user:password@]host:port/db, rediss:// or redis+cluster://host:port"
            ) from None
        self._timeout_s = timeout_s
        self._client: Redis | RedisCluster | None = None
        self._connecting = threading.Lock()

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Send all calls in one round trip (per node of a Cluster) and return their answers.

        Raises:
            StoreUnavailable: no answer in time, or a refusal; some calls may have happened.
        """
        if not calls:
            return []
        client = self._connected()
        answers: list[Any] = self._guarded(lambda: _send(client, calls))
        missing = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:  # a new or restarted server; scripts run once each, as those that failed did nothing
            self._guarded(lambda: [client.script_load(script.text) for script in ALL])
            again = self._guarded(lambda: _send(client, [calls[index] for index in missing]))
            for index, answer in zip(missing, again, strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._unavailable(answer)
        return answers

    def run_one(self, call: Call) -> Any:
        """Send one call and return its answer."""
        return self.run([call])[0]

    def ping(self) -> None:
        """Return when the place (every node of a Cluster) answers."""
        client = self._connected()
        self._guarded(client.ping)

    def close(self) -> None:
        """Let go of all connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> Redis | RedisCluster:
        client = self._client
        if client is None:
            if not self._connecting.acquire(timeout=self._timeout_s):
                raise StoreUnavailable(f"state store {self._place}: not connected after {self._timeout_s} s")
            try:
                client = self._client = self._client or self._guarded(self._connect)
            finally:
                self._connecting.release()
        return client

    def _connect(self) -> Redis | RedisCluster:
        """Make a client; that of a Cluster asks for the map of slots now.

        A call is sent once. Sent again after a time-out it could find its events applied already, and the caller would
        take new events for duplicates. RESP2 needs no handshake that older servers lack.
        """
        once = Retry(NoBackoff(), 0)
        kind: type[Redis] | type[RedisCluster] = RedisCluster if self._cluster else Redis
        client: Redis | RedisCluster = kind.from_url(
            self._url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=once,
            protocol=2,
            decode_responses=True,
        )
        return client

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        """Say what happened without the error's own words, which may repeat keys, arguments or the password."""
        code = str(error).partition(" ")[0] if isinstance(error, ResponseError) else ""
        what = f"{type(error).__name__} {code}".rstrip() if code.isupper() else type(error).__name__
        return StoreUnavailable(
            f"state store {self._place}: {what}, no answer within {self._timeout_s} s or a refusal; "
            "check that it runs, and the password and memory limit it has"
        )


def _send(client: Redis | RedisCluster, calls: Sequence[Call]) -> list[Any]:
    """Send calls as one pipeline. `execute_command` takes EVALSHA on a Cluster too, where the method is blocked."""
    with client.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.execute_command(*call.words())
        answers: list[Any] = pipe.execute(raise_on_error=False)
    return answers
