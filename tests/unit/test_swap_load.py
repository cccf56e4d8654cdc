"""What the users of `chaos_swap.py` count: every refusal fails, whatever one wait would have brought."""

import asyncio
import re
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from stress.swap_load import Tally, Users, open_loop

BUNDLE = "0123456789abcdef"
REFUSAL = (
    "HTTP/1.1 429 Too Many Requests\r\nretry-after: {wait}\r\ncontent-length: {length}\r\n\r\n"
    '{{"detail":"more requests than this replica can answer in time (queue_slow)"}}'
)
LENGTH = 76
_REFUSED = REFUSAL.format(wait=0, length=LENGTH)


def _slate(item: str) -> str:
    body = f'{{"bundle":{{"id":"{BUNDLE}"}},"items":[{{"item_id":"{item}"}}]}}'
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def _seen(answer: Callable[[int], str]) -> Tally:
    """Send some requests to a service that answers its n-th request with `answer(n)`."""
    tally = Tally()

    async def run() -> None:
        count = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            with suppress(asyncio.IncompleteReadError):  # the other side has hung up
                while True:
                    found = re.search(rb"Content-Length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
                    assert found is not None
                    await reader.readexactly(int(found[1]))
                    writer.write(answer(count).encode())
                    count += 1
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        users = Users(server.sockets[0].getsockname()[1], {BUNDLE: "a"}, 10)
        await open_loop(users, 2_000.0, 0.02, tally, threading.Event())
        server.close()
        await server.wait_closed()

    asyncio.run(run())
    return tally


def test_every_answer_is_counted_once_and_foreign_items_are_noticed() -> None:
    tally = _seen(lambda number: _slate("a1" if number else "b1"))
    assert tally.asked == len(tally.latencies_s) == len(tally.due_s) > 5
    assert (tally.failed, tally.mixed, tally.remaining) == ([], 1, 0)


def test_a_refusal_fails_and_is_asked_once_more() -> None:
    assert len(_REFUSED.partition("\r\n\r\n")[2]) == LENGTH
    tally = _seen(lambda number: _slate("a1") if number else _REFUSED)
    assert (len(tally.failed), len(tally.failed_due_s), tally.waited, tally.failed_again) == (1, 1, 1, 0)
    assert tally.remaining == 0
    assert tally.reasons() == [("queue_slow", 1)]


def test_who_is_refused_twice_got_nothing() -> None:
    tally = _seen(lambda _: _REFUSED)
    assert len(tally.failed) == tally.waited == tally.failed_again == tally.remaining == tally.asked > 5


@pytest.mark.parametrize("said", ["HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", REFUSAL.replace("retry", "x")])
def test_nobody_is_asked_again_unless_told_when(said: str) -> None:
    tally = _seen(lambda _: said.format(wait=0, length=LENGTH))
    assert (tally.waited, tally.remaining) == (0, tally.asked)
