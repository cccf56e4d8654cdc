"""Paths are routed as they were sent, so that an id keeps its slashes, and is decoded once, where it is read.

A server decodes the path before anybody routes it: `/v1/items/a%2Favailability` then looks like the availability of
`a`. So the gate, the counters and the routes see the path undecoded, and an id is one part of it, without a slash.
"""

import re
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

_TRIPLET = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SAFE = "/:@!$&'()*+,;="


class RawPaths:
    """ASGI middleware around everything that looks at a path."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its path as it was sent."""
        if scope["type"] == "http" and (sent := path_of(scope)) != scope["path"]:
            scope = {**scope, "path": sent}
        await self._app(scope, receive, send)


def path_of(scope: Scope) -> str:
    """Return the path of a request as it was sent, with letters, digits and `-._~` plain.

    Those mean the same either way (RFC 3986, section 6.2.2.2). A server that keeps only the decoded path has its
    slashes taken for those between parts.
    """
    raw = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"], safe=_SAFE, errors="surrogateescape")
    text = bytes(raw).decode("utf-8", "surrogateescape")
    return _TRIPLET.sub(_plain, text) if "%" in text else text


def _plain(triplet: re.Match[str]) -> str:
    letter = chr(int(triplet[1], 16))
    return letter if letter in _UNRESERVED else triplet[0]


class RawId(Convertor[str]):
    """An id in a path: any text, percent-encoded; bytes that are no UTF-8 become lone surrogates, which no id has."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        """Decode the id."""
        return unquote(value, errors="surrogateescape")

    def to_string(self, value: str) -> str:
        """Encode the id."""
        return quote(value, safe="")


register_url_convertor("raw_id", RawId())
