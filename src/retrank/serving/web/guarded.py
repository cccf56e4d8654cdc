"""ASGI middleware that lets requests in or turns them away, before their body is read."""

import logging
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.contract.api import Problem
from retrank.serving.guard.caller import Caller, set_caller
from retrank.serving.guard.gate import Entry, Gate, Headers, Refusal
from retrank.serving.web.problems import MEDIA_TYPE
from retrank.serving.web.request_id import request_id_of

NOBODY = Caller("unknown", None, frozenset())
_SHOWN = 200
_audit = logging.getLogger("retrank.audit")


class Guarded:
    """Stands in front of the routes."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        """Wrap an application."""
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, when its turn has come, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            entry = self._gate.check(scope["method"], scope["path"], dict(scope["headers"]))
            if entry.lane is not None:
                await self._gate.wait(entry)
        except Refusal as refusal:
            if scope["path"].startswith("/admin/"):
                audit(scope, NOBODY, refusal.status)
            await _refuse(scope, send, refusal)
            return
        try:
            set_caller(scope, entry.caller)
            await self._app(scope, receive, _watched(scope, send, entry))
        finally:
            if entry.lane is not None:
                entry.lane.leave()


def _watched(scope: Scope, send: Send, entry: Entry) -> Send:
    """Add the state of the quota to the answer, and write who did what on the admin routes; else change nothing."""
    administers = scope["path"].startswith("/admin/")
    if not (entry.headers or administers):
        return send

    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *entry.headers]
            if administers:
                audit(scope, entry.caller, message["status"])
        await send(message)

    return watched


def audit(scope: Scope, caller: Caller, status: int) -> None:
    """Log one administrative call: who, what, how it ended. Never a secret, never a body."""
    _audit.warning(  # the level at which the service logs: what an operator does is always written down
        "%s %s ended with %d, key %s of tenant %s, request %s",
        scope["method"],
        quote(scope["path"][:_SHOWN], safe="/:", errors="replace"),  # decoded, so it may hold a line break
        status,
        caller.key_id or "none",
        caller.tenant,
        request_id_of(scope),
    )


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    problem = Problem(
        type=f"/problems/{refusal.code}",
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        detail=refusal.detail,
        instance=request_id_of(scope),
        code=refusal.code,
    )
    body = problem.model_dump_json().encode()
    headers: Headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
