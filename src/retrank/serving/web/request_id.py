"""One id per request: the body's `request_id`, else the `X-Request-ID` header, else a new one; every error names it."""

import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.contract.api import MAX_ID_LENGTH
from retrank.serving.telemetry.logs import answering

_RAW_HEADER = b"x-request-id"
_KEY = "retrank.request_id"
_ECHO = "retrank.echo_request_id"


def request_id_of(scope: Any) -> str:
    """Return the id of the request a scope belongs to."""
    return str(scope.get(_KEY, ""))


def set_request_id(scope: Any, request_id: str) -> None:
    """Replace the id: one in the body wins over the header. Log lines of this request bear it from now on."""
    scope[_KEY] = request_id
    answering.set(request_id)


def ask_for_echo(scope: Any) -> None:
    """Have the id put on the answer of a request which the server in front has not looked at."""
    scope[_ECHO] = True


class RequestIds:
    """ASGI middleware that names every request."""

    def __init__(self, app: ASGIApp, *, echo: bool) -> None:
        """Wrap an application; `echo` puts the id on the answer."""
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request, and put the name it ends with on the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        set_request_id(scope, sent_id(scope) or uuid.uuid4().hex)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = _visible(request_id_of(scope)).encode()
                message["headers"] = [*message.get("headers", ()), (_RAW_HEADER, name)]
            await send(message)

        await self._app(scope, receive, named if self._echo or _ECHO in scope else send)


def sent_id(scope: Scope) -> str | None:
    """Return the id a client sent, unless it is empty, too long or not printable ASCII."""
    for name, value in scope["headers"]:
        if name == _RAW_HEADER:
            text = bytes(value).decode("latin-1")
            return text if 0 < len(text) <= MAX_ID_LENGTH and _visible(text) == text else None
    return None


def _visible(text: str) -> str:
    """Return a text as it may stand in a header: anything but printable ASCII becomes a question mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
