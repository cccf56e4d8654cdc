"""Answers that leave a replica in one piece.

Uvicorn writes head and body one after the other, and with delays switched off (see `listener`) each goes out at once:
two calls of the kernel here, and twice waking up HAProxy and whoever waits behind it, for an answer that fits one
packet. A corked socket keeps what is written until it is uncorked. Source: tcp(7), TCP_CORK, which goes before
TCP_NODELAY.

ASGI has no way to ask for the socket. Uvicorn keeps its transport in the object whose method `receive` is (as `send`,
which middleware likes to wrap); with any other server, or on another system, answers leave as before.
"""

import socket
from typing import Any

from starlette.types import Message, Receive, Send

_CORK: int | None = getattr(socket, "TCP_CORK", None)


def in_one_piece(receive: Receive, send: Send) -> Send:
    """Return what sends an answer whose head goes out with the first piece of its body."""
    found = _socket(receive)
    if found is None:
        return send

    async def joined(message: Message) -> None:
        if message["type"] == "http.response.start":
            _cork(found, 1)
            await send(message)
            return
        try:
            await send(message)
        finally:
            _cork(found, 0)

    return joined


def _socket(receive: Receive) -> Any:
    """Return the TCP socket that answers are written to, None when it is not known."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if _CORK is None or transport is None:
        return None
    found = transport.get_extra_info("socket")
    return found if found is not None and found.family in (socket.AF_INET, socket.AF_INET6) else None


def _cork(found: Any, on: int) -> None:
    assert _CORK is not None
    try:
        found.setsockopt(socket.IPPROTO_TCP, _CORK, on)
    except OSError:  # the client is gone, and the server finds out by itself
        return
