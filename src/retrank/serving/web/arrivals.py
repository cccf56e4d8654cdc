"""A request takes its place when all of it is here, so that a body which comes slowly keeps nobody else from one.

HAProxy waits for what fits its buffer (16 KiB with the head); of a longer body it passes on the beginning. The rest is
waited for here, before the lane, for some seconds and within a bound of memory. Ray's own proxy waits for nothing:
short bodies that come slowly through it are given up in the same time by `bodies`, in the lane.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import Message, Receive

from retrank.contract.api import MAX_BODY_BYTES
from retrank.serving.guard.gate import Refusal
from retrank.serving.web.bodies import MAX_BODY_S

WHOLE_BYTES = 8 * 1024
"""Bodies up to this size are in HAProxy's buffer (16 KiB with the head) before a replica hears of the request."""
MAX_HELD_BYTES = 64 << 20
"""Of bodies of one replica that were waited for here and are not answered yet; far beyond what is ever of use."""


class Held(NamedTuple):
    """A body that has come; `gone` when its sender has not stayed for an answer."""

    messages: tuple[Message, ...]
    num_bytes: int
    gone: bool


class Full(Exception):  # noqa: N818  (an outcome, not a mistake)
    """There is no memory for another body now."""


def comes_whole(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether what stands in front has read the body already, or there is none."""
    if b"transfer-encoding" in headers:
        return False
    length = headers.get(b"content-length", b"0")
    return length.isdigit() and len(length) <= len(str(WHOLE_BYTES)) and int(length) <= WHOLE_BYTES


class Arrivals:
    """The bodies that one replica waits for or holds; belongs to one event loop."""

    def __init__(self, *, max_held_bytes: int = MAX_HELD_BYTES, max_body_s: float = MAX_BODY_S) -> None:
        """Hold nothing yet."""
        self._most, self._max_body_s = max_held_bytes, max_body_s
        self.held_bytes = 0

    async def take(self, receive: Receive) -> Held:
        """Wait for a body, and hold it until `let_go`; one beyond the limit of size is not read to its end.

        Raises:
            Refusal: 408 it did not come to its end in time.
            Full: too much is held already.
        """
        messages: list[Message] = []
        num_bytes, more = 0, True
        try:
            async with asyncio.timeout(self._max_body_s):
                while more and num_bytes <= MAX_BODY_BYTES:
                    messages.append(await receive())
                    size = len(messages[-1].get("body", b""))
                    num_bytes += size
                    self.held_bytes += size
                    if self.held_bytes > self._most:
                        raise Full
                    more = messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False)
        except BaseException as error:
            self.held_bytes -= num_bytes
            if isinstance(error, TimeoutError):
                raise _too_slow(num_bytes, self._max_body_s) from None
            raise
        return Held(tuple(messages), num_bytes, gone=messages[-1]["type"] == "http.disconnect")

    def let_go(self, held: Held) -> None:
        """Forget a body."""
        self.held_bytes -= held.num_bytes


def again(held: Held, receive: Receive) -> Receive:
    """Return what gives a held body once more, and then whatever comes."""
    left = list(reversed(held.messages))

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _too_slow(num_bytes: int, max_body_s: float) -> Refusal:
    detail = f"{num_bytes:,} bytes of the body came within {max_body_s:g} s, and not its end"
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail, [(b"connection", b"close")])
