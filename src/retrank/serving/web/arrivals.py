"""A request takes its place when all of it is here, so that a body which comes slowly keeps nobody else from one.

HAProxy waits for what fits its buffer (16 KiB with the head); of a longer body it passes on the beginning. The rest is
waited for here, before the lane, for some seconds and within a bound of memory. Ray's own proxy waits for nothing:
short bodies that come slowly through it are given up in the same time by `bodies`, in the lane.
"""

import asyncio
from collections import Counter
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
SHARE = 4
"""One caller holds at most this part of it, so that nobody keeps the bodies of all others out."""


class Held(NamedTuple):
    """What has come of a body.

    Attributes:
        caller: who sent it.
        body: as far as it was read; `more` when there is more of it than anybody may send.
        gone: its sender has not stayed for an answer.
        waited_s: how long it took to come, seconds.
    """

    caller: str | None
    body: bytes
    more: bool
    gone: bool
    waited_s: float


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
        self._of: Counter[str | None] = Counter()

    async def take(self, receive: Receive, caller: str | None = None) -> Held:
        """Wait for a body, and hold it until `let_go`; one beyond the limit of size is not read to its end.

        However many pieces it comes in, it is held as one.

        Args:
            receive: gives the pieces.
            caller: the public part of the key that sends it; None is everybody without one.

        Raises:
            Refusal: 408 it did not come to its end in time.
            Full: too much is held already, of all or of this caller.
        """
        body, more, gone = bytearray(), True, False
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._max_body_s):
                while more and len(body) <= MAX_BODY_BYTES:
                    message = await receive()
                    piece = message.get("body", b"")
                    body += piece
                    self._hold(caller, len(piece))
                    gone = message["type"] == "http.disconnect"
                    more = not gone and message.get("more_body", False)
        except BaseException as error:
            self._hold(caller, -len(body))
            if isinstance(error, TimeoutError):
                raise _too_slow(len(body), self._max_body_s) from None
            raise
        return Held(caller, bytes(body), more, gone, clock() - began)

    def let_go(self, held: Held) -> None:
        """Forget a body."""
        self._hold(held.caller, -len(held.body))

    def _hold(self, caller: str | None, num_bytes: int) -> None:
        self.held_bytes += num_bytes
        self._of[caller] += num_bytes
        if num_bytes > 0 and (self.held_bytes > self._most or self._of[caller] * SHARE > self._most):
            raise Full
        if not self._of[caller]:
            del self._of[caller]


def again(held: Held, receive: Receive) -> Receive:
    """Return what gives a held body once more, in one piece, and then whatever comes."""
    left: list[Message] = [{"type": "http.request", "body": held.body, "more_body": held.more}]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay


def _too_slow(num_bytes: int, max_body_s: float) -> Refusal:
    detail = f"{num_bytes:,} bytes of the body came within {max_body_s:g} s, and not its end"
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail, [(b"connection", b"close")])
