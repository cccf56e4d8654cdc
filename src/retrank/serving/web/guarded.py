"""ASGI middleware that lets requests in or turns them away, before anything of their body is parsed."""

import json
import logging
from functools import lru_cache, partial
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.contract.api import Problem
from retrank.contract.problem_codes import ProblemCode
from retrank.serving.guard.caller import Caller, set_caller, set_charge, set_waited
from retrank.serving.guard.gate import Entry, Gate, Headers, Refusal
from retrank.serving.web.arrivals import Arrivals, Full, Held, again, comes_whole
from retrank.serving.web.problems import MEDIA_TYPE
from retrank.serving.web.request_id import request_id_of

NOBODY = Caller("unknown", None, frozenset())
_SHOWN = 200
_HOLE = "|the id of the request|"
_audit = logging.getLogger("retrank.audit")


class Guarded:
    """Stands in front of the routes."""

    def __init__(self, app: ASGIApp, *, gate: Gate, arrivals: Arrivals | None = None) -> None:
        """Wrap an application; `arrivals` holds the bodies that are waited for."""
        self._app = app
        self._gate = gate
        self._arrivals = arrivals or Arrivals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, when its turn has come, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            entry = self._gate.check(scope["method"], scope["path"], headers)
            held = None if entry.lane is None or comes_whole(headers) else await self._arrived(receive, entry)
        except Refusal as refusal:
            await _refuse(scope, send, refusal)
            return
        try:
            if held is None or not held.gone:
                await self._enter(scope, receive, send, entry, held)
        finally:
            if held is not None:
                self._arrivals.let_go(held)

    async def _arrived(self, receive: Receive, entry: Entry) -> Held:
        try:
            return await self._arrivals.take(receive, entry.caller.key_id)
        except Full as full:
            raise self._gate.overloaded("bodies_full", entry) from full

    async def _enter(self, scope: Scope, receive: Receive, send: Send, entry: Entry, held: Held | None) -> None:
        """Take a slot, if one is needed, for a request that is here, and let it be answered."""
        try:
            held_s = 0.0 if held is None else held.waited_s
            queued_s = 0.0 if entry.lane is None else await self._gate.wait(entry, held_s)
        except Refusal as refusal:
            await _refuse(scope, send, refusal)
            return
        try:
            if queued_s and _hung_up(receive):
                return
            set_waited(scope, queued_s + held_s)
            set_caller(scope, entry.caller)
            set_charge(scope, partial(self._gate.charge, entry))
            body = receive if held is None else again(held, receive)
            await self._app(scope, body, _watched(scope, send, entry))
        finally:
            if entry.lane is not None:
                entry.lane.leave()


def _hung_up(receive: Receive) -> bool:
    """Tell whether the client went away while its request was queued: nobody would read the answer.

    ASGI has no way to ask without waiting. Uvicorn knows, in the object whose method `receive` is; of any other
    server's clients none is ever taken to be gone.
    """
    return getattr(getattr(receive, "__self__", None), "disconnected", False) is True


def _watched(scope: Scope, send: Send, entry: Entry) -> Send:
    """Add the state of the quota to the answer, and write who did what on the admin routes; else change nothing."""
    administers = scope["path"].startswith("/admin/")
    if not (entry.headers or administers):
        return send

    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            quota = {name for name, _ in entry.headers}  # a refusal further in has named it already
            message["headers"] = [one for one in message.get("headers", []) if one[0] not in quota] + entry.headers
            if administers:
                audit(scope, entry.caller, message["status"])
        await send(message)

    return watched


def audit(scope: Scope, caller: Caller, status: int) -> None:
    """Log one administrative call: who, what, how it ended. Never a secret, never a body."""
    _audit.warning(  # the level at which the service logs: what an operator does is always written down
        "%s %s ended with %d, key %s of tenant %s, request %s",
        scope["method"],
        quote(scope["path"][:_SHOWN], safe="/:%", errors="replace"),  # where it is decoded it may hold a line break
        status,
        caller.key_id or "none",
        caller.tenant,
        request_id_of(scope),
    )


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["path"].startswith("/admin/"):
        audit(scope, NOBODY, refusal.status)
    before, after = _around_the_id(refusal.status, refusal.code, refusal.detail)
    body = before + json.dumps(request_id_of(scope)).encode() + after
    headers: Headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=64)
def _around_the_id(status: HTTPStatus, code: ProblemCode, detail: str) -> tuple[bytes, bytes]:
    """Return the problem document of a refusal, cut where the id of the request stands: few differ in more."""
    problem = Problem(
        type=f"/problems/{code}", title=status.phrase, status=status, detail=detail, instance=_HOLE, code=code
    )
    before, _, after = problem.model_dump_json().encode().partition(f'"{_HOLE}"'.encode())
    return before, after
