"""API keys: `retrank_<id>_<secret>`, of which a file keeps the id and a hash.

The secret is 256 random bits, so nobody can guess it and a slow password hash would only slow the service down: one
HMAC-SHA-256 takes a microsecond. Its key is the pepper, taken from the environment: whoever can write the key file but
does not know the pepper cannot plant a key of his own. The id is no secret; it finds the record, and the hashes are
compared in constant time.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrank.contract.errors import ConfigError, said_of
from retrank.serving.guard.caller import Permission

PEPPER_VARIABLE = "RETRANK_KEY_PEPPER"
MAX_KEYS = 10_000
SECRET_BYTES = 32
_ID_BYTES = 6
_TOKEN = re.compile(r"retrank_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_SECRET = re.compile(r"(retrank_[0-9A-Za-z]{12})_[\w-]+")  # also of a key that was cut off or mistyped
_NOBODY = "0" * 64


class KeyRecord(BaseModel):
    """What is kept of a key: everything but the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$", description="public part of the key")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="HMAC-SHA-256 of the secret under the pepper, hex")
    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="namespace the key works in")
    scopes: frozenset[Permission] = Field(min_length=1, description="read, ingest, admin")
    created_at: datetime = Field(description="when it was made, UTC")
    revoked_at: datetime | None = Field(default=None, description="when it stopped working, UTC")


class KeyFile(BaseModel):
    """The key file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[int, Field(ge=1, le=1)] = 1
    keys: Annotated[tuple[KeyRecord, ...], Field(max_length=MAX_KEYS)] = ()


class NewKey(NamedTuple):
    """A key that was just made; `token` is shown once and kept nowhere."""

    token: str
    record: KeyRecord


def new_key(
    tenant: str, scopes: frozenset[Permission], *, pepper: bytes, random: Callable[[int], bytes], now: datetime
) -> NewKey:
    """Make a key.

    Args:
        tenant: namespace it works in.
        scopes: what it may do.
        pepper: key of the hash, from the environment; may be empty.
        random: returns that many unpredictable bytes, such as `secrets.token_bytes`.
        now: moment of creation, UTC.

    Raises:
        ValidationError: the tenant or the scopes do not fit.
    """
    key_id = random(_ID_BYTES).hex()
    secret = base64.urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode()
    record = KeyRecord(
        id=key_id, hash=hash_of(key_id, secret, pepper), tenant=tenant, scopes=scopes, created_at=now, revoked_at=None
    )
    return NewKey(f"retrank_{key_id}_{secret}", record)


def is_token(text: str) -> bool:
    """Say whether a text has the form of a key; whether it opens anything, only a service knows."""
    return _TOKEN.fullmatch(text) is not None


def redacted(text: str) -> str:
    """Return a text with the ids of the keys in it, without their secrets."""
    return _SECRET.sub(r"\1_...", text)


def hash_of(key_id: str, secret: str, pepper: bytes) -> str:
    """Return what is kept of a secret, as hex; the id goes in, so that records cannot be swapped."""
    return hmac.new(pepper or b"retrank", f"{key_id}:{secret}".encode(), hashlib.sha256).hexdigest()


def pepper_from(environment: Mapping[str, str]) -> bytes:
    """Return the pepper of an environment; empty when none is set."""
    return environment.get(PEPPER_VARIABLE, "").encode()


def match(token: str, records: Mapping[str, KeyRecord], pepper: bytes) -> KeyRecord | None:
    """Return the live record a token belongs to; the time taken does not tell how much of a secret was right."""
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        return None
    key_id, secret = parts.groups()
    record = records.get(key_id)
    right = hmac.compare_digest(hash_of(key_id, secret, pepper), record.hash if record else _NOBODY)
    return record if record is not None and right and record.revoked_at is None else None


def read_key_file(path: Path) -> KeyFile:
    """Read a key file.

    Raises:
        ConfigError: it is missing, readable for others, or not a key file.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}; make one with `retrank keys create`") from error
    if mode & 0o037:  # a group may read: that is how Kubernetes mounts a secret, and it holds hashes only
        raise ConfigError(f"key file {path} has mode {mode:o}, expected 600: run `chmod 600 {path}`")
    try:
        return KeyFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"key file {path}: {where}: {said_of(first['msg'])}; write it with `retrank keys`") from error


def write_key_file(path: Path, keys: KeyFile) -> None:
    """Replace a key file in one step; nobody else may read it."""
    content = json.dumps(keys.model_dump(mode="json"), indent=1)
    handle, temporary = tempfile.mkstemp(prefix=".keys-", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(content + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
