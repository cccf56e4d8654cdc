"""Signed recommendation tokens: what an answer hands out, and what events bring back for attribution.

    v1.<base64url of the claims as JSON>.<base64url of their HMAC-SHA-256, cut to 128 bits>

A token can be read by anybody and made only with the key. It holds no user id: the person appears as a keyed hash.
"""

import base64
import binascii
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from retrank.contract.errors import ConfigError, RetrankError

KEY_VARIABLE = "RETRANK_TOKEN_KEY"
_KEY_BYTES = 32
_MAC_BYTES = 16
_VERSION = "v1"
_MAX_LENGTH = 2_048


class TokenRefused(RetrankError):  # noqa: N818  (says what happened to it)
    """A token was not made by this service, or was changed."""


class Claims(BaseModel):
    """What a token says.

    Attributes:
        id: random, names the answer.
        bundle: that answered.
        tenant: whose service it was.
        person: keyed hash of the person; "" for nobody.
        placement, variant: where it was shown, and by which variant of an experiment.
        at: seconds since the Unix epoch.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: str
    bundle: str
    tenant: str
    person: str
    placement: str | None = None
    variant: str | None = None
    at: int


class Signer:
    """Makes and checks tokens, and hashes persons."""

    def __init__(self, key: bytes) -> None:
        """Keep the key.

        Raises:
            ConfigError: it is shorter than 32 bytes.
        """
        if len(key) < _KEY_BYTES:
            raise ConfigError(
                f"the token key has {len(key)} bytes, at least {_KEY_BYTES} are needed; make a longer one"
            )
        self._key = key

    def sign(self, claims: Claims) -> str:
        """Return the token of some claims."""
        body = _text(claims.model_dump_json(exclude_none=True).encode())
        return f"{_VERSION}.{body}.{_text(self._mac(body))}"

    def verify(self, token: str) -> Claims:
        """Return what a token says.

        Raises:
            TokenRefused: it is not one of ours, or was changed.
        """
        version, _, rest = token[: _MAX_LENGTH + 1].partition(".")
        body, _, mac = rest.partition(".")
        if len(token) > _MAX_LENGTH or version != _VERSION or not token.isascii():
            raise TokenRefused("not a recommendation token of this service; echo recommendation_id unchanged")
        if not hmac.compare_digest(mac, _text(self._mac(body))):
            raise TokenRefused("the signature of the token does not fit; it was changed, or signed with another key")
        try:
            return Claims.model_validate_json(_raw(body))
        except (ValidationError, binascii.Error) as error:
            raise TokenRefused("the token was signed by a version with other claims") from error

    def has_signed(self, tenant: str, token: str) -> bool:
        """Tell whether a token was handed out by this service, to this tenant."""
        try:
            return self.verify(token).tenant == tenant
        except TokenRefused:
            return False

    def person(self, tenant: str, person: str) -> str:
        """Return the keyed hash of a person, 32 hex digits; "" for nobody."""
        if not person:
            return ""
        text = json.dumps([tenant, person]).encode()
        return hmac.digest(self._key, b"person" + text, "sha256")[:_MAC_BYTES].hex()

    def _mac(self, body: str) -> bytes:
        return hmac.digest(self._key, f"token{body}".encode(), "sha256")[:_MAC_BYTES]


def load_key(path: Path, environment: Mapping[str, str]) -> bytes:
    """Return the key: hex digits in RETRANK_TOKEN_KEY, else the file, which is made for its owner alone when absent.

    Every replica must use the same key; replicas of one host that share the folder agree on the first file made.

    Raises:
        ConfigError: the variable is not hexadecimal, or the file cannot be read or made.
    """
    given = environment.get(KEY_VARIABLE)
    try:
        if given is not None:
            return bytes.fromhex(given)
        if not path.exists():
            _make(path)
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError as error:
        where = KEY_VARIABLE if given is not None else str(path)
        raise ConfigError(
            f"{where} is not a key in hexadecimal digits; give at least {2 * _KEY_BYTES} of them"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"no token key at {path}: {error.strerror}; set {KEY_VARIABLE}, or let this user write there"
        ) from error


def _make(path: Path) -> None:
    """Write a new key whole and only then give it its name; whoever comes second keeps the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_hex(_KEY_BYTES).encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
