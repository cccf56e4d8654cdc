"""A shorter way into a replica: past what Ray Serve does with every request, for requests that need nothing of it.

HAProxy hands a replica small requests whole. Ray makes two tasks, a queue and two contexts for each, watches the
connection, counts against a timeout, and gives the event loop five turns before the application sees it. That costs
more processor time than refusing the request, and one in overload is refused after several slates instead of one. A
slate or an acknowledgement of events is over in milliseconds or has a deadline of its own, so those requests go
straight to the application. Everything else, and whatever is too large for HAProxy to have read in whole, takes Ray's
way.

Ray offers the door: a callback that adds middleware in front of its servers. What it scales and drains by is the number
of requests under way, which `Express` keeps for it; that counter is no public interface, so without it there is no
express either, and requests take Ray's way as before.
"""

import logging
from collections.abc import Callable

from ray.serve._private.common import RequestMetadata, RequestProtocol
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from retrank.serving.deployments.starting import Starting
from retrank.serving.web.arrivals import WHOLE_BYTES
from retrank.serving.web.request_id import ask_for_echo

_PATHS = frozenset({"/v1/recommend", "/v1/similar", "/v1/rank", "/v1/events"})
_log = logging.getLogger(__name__)
_offered: list[ASGIApp] = []  # the application of this replica; a proxy's process has none


def offer(app: ASGIApp) -> None:
    """Name the application that this replica's express requests go to; before Ray starts the replica's server."""
    _offered[:] = [app]


def middlewares() -> list[Middleware]:
    """Return what Ray puts in front of a server of this process (Ray calls it, in replicas and in proxies)."""
    return [Middleware(Express, application=app) for app in _offered] or [Middleware(Starting)]


class Express:
    """ASGI middleware in front of Ray's own."""

    def __init__(self, ray: ASGIApp, *, application: ASGIApp) -> None:
        """Stand in front of Ray; `application` is what Ray would call in the end."""
        self._ray = ray
        self._application = application
        self._count = _counter(ray)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, one way or the other."""
        if self._count is None or not is_express(scope):
            await self._ray(scope, receive, send)
            return
        ask_for_echo(scope)
        self._count(1)
        try:
            await self._application(scope, receive, send)
        finally:
            self._count(-1)


def is_express(scope: Scope) -> bool:
    """Tell whether a request is one of those that are over in a moment, with a body that is there already."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _PATHS:
        return False
    for name, value in scope["headers"]:
        if name == b"content-length":
            return value.isdigit() and len(value) <= len(str(WHOLE_BYTES)) and int(value) <= WHOLE_BYTES
    return False


def _counter(ray: ASGIApp) -> Callable[[int], None] | None:
    """Return what changes Ray's number of requests under way; None when this version of Ray keeps it elsewhere."""
    replica = getattr(getattr(ray, "_app", None), "__self__", None)
    change = getattr(getattr(replica, "_metrics_manager", None), "_change_num_ongoing_requests", None)
    if change is None:
        _log.warning("this version of Ray counts requests elsewhere: they all take its own, longer way")
        return None
    request = RequestMetadata(
        request_id="", internal_request_id="", is_direct_ingress=True, _request_protocol=RequestProtocol.HTTP
    )

    def count(delta: int) -> None:
        change(request, delta)

    return count
