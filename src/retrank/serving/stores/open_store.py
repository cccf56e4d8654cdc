"""From settings to a store."""

from pathlib import Path

from pydantic import SecretStr

from retrank.contract.errors import ConfigError
from retrank.serving.stores.protocol import StateStore
from retrank.serving.stores.settings import StateSettings, url_of
from retrank.serving.stores.sqlite_store import SqliteStore

_REDIS = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_MAX_URL_BYTES = 4_096


def sqlite_path(settings: StateSettings) -> Path | None:
    """Return the file of an embedded store; None when the URL names another kind of store, or a file that does."""
    scheme, _, rest = url_of(settings).partition(":")
    return Path(rest) if scheme == "sqlite" and rest else None


def open_store(settings: StateSettings) -> StateStore:
    """Return the store that the URL names. Nothing is connected yet: `ping` does, as does the first use.

    A URL `file:PATH` names a file that holds the URL: where settings are shown to many, as on Kubernetes, the password
    of a store belongs into a secret that is mounted.

    Raises:
        ConfigError: the URL names no store that is known, or a file that cannot be read; the message does not repeat
            the URL.
    """
    url = url_of(settings)
    scheme, _, rest = url.partition(":")
    if scheme == "file":
        return _open_named(settings, Path(rest))
    file = sqlite_path(settings)
    if file is not None:
        return SqliteStore(file, settings)
    if scheme in _REDIS:
        from retrank.serving.stores.redis_store import RedisStore  # noqa: PLC0415  (loaded only where it is used)

        return RedisStore(settings)
    raise ConfigError(
        f"state url of kind {scheme[:20]!r}, expected sqlite:PATH, file:PATH, redis://, rediss:// or redis+cluster://"
    )


def _open_named(settings: StateSettings, path: Path) -> StateStore:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_URL_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"state url in {path}: {reason}; expected a file that holds the URL of a store") from error
    if not text or len(text) > _MAX_URL_BYTES or text.startswith("file:"):
        raise ConfigError(f"state url in {path}: expected the URL of a store on one line, and not another file:")
    return open_store(settings.model_copy(update={"url": SecretStr(text)}))
