"""What Ray leaves out where a replica starts to listen: answers that are sent at once.

An answer leaves in two pieces, head and body. Ray makes the socket it listens on without naming a protocol, by which
asyncio tells whether delaying small pieces should be switched off, so the body would wait for 40 ms until HAProxy's
side acknowledges the head. A socket that is accepted takes the option over from the one that listens.
"""

import asyncio
import logging
import socket
from typing import Any

from ray.serve._private import replica

_HOOK = "start_asgi_http_server"
_POLL_S = 0.01
_MOST_POLLS = 1_000
_log = logging.getLogger(__name__)


def send_at_once() -> None:
    """Make the HTTP server of this replica process send without delay; call it in the constructor."""
    start = getattr(replica, _HOOK, None)
    if start is None:
        _log.warning("this version of Ray starts the HTTP server of a replica elsewhere; answers may take 40 ms more")
        return

    async def start_quick(*args: Any, **options: Any) -> Any:
        task, server = await start(*args, **options)
        server.retrank_no_delay = asyncio.ensure_future(no_delay(server))  # kept, else it may be collected
        return task, server

    setattr(replica, _HOOK, start_quick)


async def no_delay(server: Any) -> None:
    """Set the option on everything a uvicorn server listens on, as soon as it does."""
    for _ in range(_MOST_POLLS):
        if server.started:
            break
        await asyncio.sleep(_POLL_S)
    for listening in getattr(server, "servers", ()):
        for one in listening.sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
