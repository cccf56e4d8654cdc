"""A body that never ends is given up in time: it must not keep a place among those that are answered."""

import asyncio
import json

import pytest
from fastapi import Request
from starlette.types import Message

from retrank.contract.api import RecommendRequest
from retrank.serving.web import bodies
from retrank.serving.web.problems import ProblemError

SCOPE = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}


def request(*parts: bytes, ends: bool) -> Request:
    """A request whose body comes in parts; one that does not end leaves its reader waiting."""
    left = list(parts)

    async def receive() -> Message:
        if left:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}
        await asyncio.Event().wait()
        raise AssertionError("nobody waits so long")

    return Request(SCOPE, receive)


def test_a_body_whose_end_does_not_come_is_a_408_that_says_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_S", 0.05)
    with pytest.raises(ProblemError, match=r"17,000 bytes of the body came within 0\.05 s, and not its end") as caught:
        asyncio.run(bodies.read_model(request(b" " * 9_000, b" " * 8_000, ends=False), RecommendRequest))
    assert caught.value.status == 408


def test_a_body_in_many_parts_that_ends_is_read() -> None:
    parts = [json.dumps({"user_id": "u1", "k": 5})[at : at + 3].encode() for at in range(0, 27, 3)]
    found = asyncio.run(bodies.read_model(request(*parts, ends=True), RecommendRequest))
    assert (found.user_id, found.k) == ("u1", 5)
