"""Hand one request to an application in this process, and judge the answer."""

import asyncio
import json
import signal
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import unquote

from pydantic import ValidationError
from starlette.types import ASGIApp, Message

from retrank.contract.api import Problem
from retrank.contract.events import EventsRefused
from stress.fuzz_cases import Case

DOCUMENTED = {503: {"store_unavailable", "log_unavailable", "not_offered"}, 507: {"store_full"}}
"""Answers above 499 that are part of the interface, by status: the codes they may name."""

_WITH_RECEIPT = b'"code":"all_rejected"'
"""The one problem with a member of its own (RFC 9457, section 3.2): which events were refused, and why."""


class Hang(BaseException):
    """A request took longer than it may; not an Exception, so that nothing on the way keeps it."""


class Answer(NamedTuple):
    """What came back; status 0 when nothing did."""

    status: int
    headers: dict[str, str]
    body: bytes


async def exchange(app: ASGIApp, case: Case, within_s: float | None) -> Answer:
    """Return the answer to one request; `within_s` of None waits for it, and lets several be under way at a time.

    Raises:
        Hang: it took longer than it may.
        AssertionError: the application broke the protocol, such as answering twice.
    """
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": case.hangs_up or at < len(case.chunks) - 1}
        for at, chunk in enumerate(case.chunks)
    ]
    seen: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if not case.hangs_up:
            await asyncio.sleep(3_600)  # a client that waits for its answer
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        seen.append(dict(message))

    with nullcontext() if within_s is None else _bounded(within_s):
        try:
            async with asyncio.timeout(within_s):
                await app(_scope(case), receive, send)
        except TimeoutError:
            raise Hang(f"no answer within {within_s:g} s") from None
    return Answer(0, {}, b"") if case.hangs_up and not _is_whole(seen) else _answer(seen)


def _scope(case: Case) -> dict[str, Any]:
    raw, _, query = case.target.encode("ascii", "ignore").partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": case.method,
        "path": unquote(raw.decode("ascii")),  # as uvicorn does
        "raw_path": raw,
        "root_path": "",
        "query_string": query,
        "headers": list(case.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


def _is_whole(seen: list[Message]) -> bool:
    return len(seen) > 1 and not seen[-1].get("more_body", False)


def _answer(seen: list[Message]) -> Answer:
    if not seen:
        return Answer(0, {}, b"")
    assert seen[0]["type"] == "http.response.start", "the body came before the status"
    assert all(message["type"] == "http.response.body" for message in seen[1:]), "two answers to one request"
    assert len(seen) > 1, "the answer has no body"
    assert not seen[-1].get("more_body", False), "the answer has no end"
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in seen[0].get("headers", [])}
    return Answer(seen[0]["status"], headers, b"".join(message.get("body", b"") for message in seen[1:]))


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Interrupt code that never returns to the event loop."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang(f"the event loop stood still for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault(case: Case, answer: Answer) -> str | None:
    """Return what is wrong with an answer; None when nothing is."""
    if answer.status == 0:
        return None if case.hangs_up else "no answer"
    if case.method == "HEAD" and not answer.body:  # a server drops the body where the application does not
        return f"{answer.status} to HEAD" if answer.status >= 500 else None
    announced = answer.headers.get("content-length", str(len(answer.body)))
    if int(announced) != len(answer.body):
        return f"{answer.status}: content-length does not match the body"
    return _faulty_problem(answer) if answer.status >= 400 else _faulty_json(answer)


def _faulty_json(answer: Answer) -> str | None:
    if answer.headers.get("content-type", "").startswith("application/json"):
        with suppress(ValueError):
            json.loads(answer.body, parse_constant=_no_constant)
            return None
        return f"{answer.status}: the body is not JSON"
    return None


def _faulty_problem(answer: Answer) -> str | None:
    kind = answer.headers.get("content-type", "")
    if kind != "application/problem+json":
        return f"{answer.status}: content-type {kind!r} instead of a problem document"
    kind_of = EventsRefused if _WITH_RECEIPT in answer.body else Problem
    try:
        problem = kind_of.model_validate_json(answer.body)
    except ValidationError as error:
        return f"{answer.status}: no problem document: {error.errors()[0]['msg']}"
    if problem.status != answer.status:
        return f"{answer.status}: the document says {problem.status}"
    if answer.status >= 500 and problem.code not in DOCUMENTED.get(answer.status, set()):
        return f"{answer.status} {problem.code}: {problem.detail[:100]}"
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
