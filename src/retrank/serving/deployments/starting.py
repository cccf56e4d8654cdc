"""What Ray's own proxy says while it knows no route yet: 503 and when to come back, where Ray would say 404.

HAProxy says so by itself (`front_door`). Without it, Ray's proxy listens from its first moment on and hears of the
application only once a replica is ready. What no route of the application has is the application's own 404, a problem
document, and passes. Once anybody was answered, a 404 of Ray's is about the path, as it is beside a `route_prefix`.
"""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.serving.front_door import MEDIA_TYPE, NOBODY, RETRY_AFTER_S, document
from retrank.serving.web.request_id import sent_id

_PROBLEM = MEDIA_TYPE.encode()
_OF_RAY = "/-/"
"""Paths that Ray's proxy answers itself, ready or not."""


class Starting:
    """ASGI middleware in front of Ray's proxy."""

    def __init__(self, ray: ASGIApp) -> None:
        """Stand in front of Ray."""
        self._ray = ray
        self._answers = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer it here when Ray has nobody to hand it to."""
        answered = False

        async def told(message: Message) -> None:
            nonlocal answered
            if not self._answers and _nobody_is_there(message):
                answered = True
                await _say_so(scope, send)
            elif not answered:
                self._answers = self._answers or not scope["path"].startswith(_OF_RAY)
                await send(message)

        await self._ray(scope, receive, told if scope["type"] == "http" else send)


def _nobody_is_there(message: Message) -> bool:
    if message["type"] != "http.response.start" or message["status"] != HTTPStatus.NOT_FOUND:
        return False
    return not any(name.lower() == b"content-type" and value.startswith(_PROBLEM) for name, value in message["headers"])


async def _say_so(scope: Scope, send: Send) -> None:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    request_id = sent_id(scope) or ""  # Ray has given it one by now
    body = document(status, "starting", NOBODY, request_id).encode()
    headers = [
        (b"content-type", _PROBLEM),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
