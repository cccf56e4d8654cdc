"""Whether head and body of an answer leave together, asked of the server that Ray starts in a replica."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from ray_serving import HTTPOptions, express, listener, start_asgi_http_server

from retrank.serving.deployments.whole_answers import in_one_piece
from retrank.serving.ingress import free_port

REQUEST = b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
Wrap = Callable[[Any, Any], Any]
Around = Callable[[Any], Any]


def _seen(wrap: Wrap, *pieces: bytes, around: Around = lambda answers: answers) -> list[bytes]:
    """Return what a client has after the head, and after each piece of the body, with a moment between them."""
    seen: list[bytes] = []

    async def run() -> None:
        client = socket.socket()
        client.setblocking(False)

        def arrived() -> bytes:
            with contextlib.suppress(BlockingIOError):
                return client.recv(65_536)
            return b""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            whole = wrap(receive, send)
            last = len(pieces) - 1
            for message in [
                HEAD,
                *(
                    {"type": "http.response.body", "body": piece, "more_body": number < last}
                    for number, piece in enumerate(pieces)
                ),
            ]:
                await whole(message)
                await asyncio.sleep(0.05)
                seen.append(arrived())

        options = HTTPOptions(host="127.0.0.1", port=free_port())
        loop = asyncio.get_running_loop()
        task, server = await start_asgi_http_server(around(answer), options, event_loop=loop)
        await listener.no_delay(server)
        await loop.sock_connect(client, ("127.0.0.1", options.port))
        await loop.sock_sendall(client, REQUEST)
        async with asyncio.timeout(10):
            while len(seen) <= len(pieces):
                await asyncio.sleep(0.01)
        client.close()
        server.should_exit = True
        await task

    asyncio.run(run())
    return seen


def as_it_is(receive: Any, send: Any) -> Any:
    del receive
    return send


def test_a_head_waits_for_its_body() -> None:
    nothing, answer = _seen(in_one_piece, b"body")
    assert nothing == b""
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nbody")


def test_express_answers_in_one_piece() -> None:
    """It stands first in a replica: nobody has wrapped what Uvicorn sends with."""

    class Replica:
        class _metrics_manager:  # noqa: N801  (Ray's name)
            @staticmethod
            def _change_num_ongoing_requests(*_: Any) -> None: ...

        async def asgi(self, *_: Any) -> None: ...

    class Ray:
        _app = Replica().asgi

    nothing, answer = _seen(as_it_is, b"body", around=lambda answers: express.Express(Ray(), application=answers))  # type: ignore[arg-type]  # as much of Ray as it looks at
    assert nothing == b""
    assert answer.endswith(b"body")


def test_without_it_the_head_goes_ahead() -> None:
    head, body = _seen(as_it_is, b"body")
    assert head.endswith(b"\r\n\r\n")
    assert body == b"body"


def test_pieces_of_a_long_body_are_not_held_back() -> None:
    nothing, first, second = _seen(in_one_piece, b"bo", b"dy")
    assert nothing == b""
    assert first.endswith(b"bo")
    assert second == b"dy"


class Cycle:
    """Whose methods `receive` and `send` are, in Uvicorn, with as much of it as is looked at."""

    class Transport:
        def __init__(self, found: socket.socket | None) -> None:
            self._found = found

        def get_extra_info(self, name: str) -> socket.socket | None:
            assert name == "socket"
            return self._found

    def __init__(self, found: socket.socket | None) -> None:
        self.transport = self.Transport(found)

    async def receive(self) -> Any: ...

    async def send(self, message: Any) -> None: ...


def test_an_answer_over_what_is_no_tcp_leaves_as_before() -> None:
    with socket.socket(socket.AF_UNIX) as local:
        for cycle in (Cycle(local), Cycle(None)):
            send = cycle.send
            assert in_one_piece(cycle.receive, send) is send


def test_an_answer_through_another_server_leaves_as_before() -> None:
    async def receive() -> Any: ...

    send = Cycle(None).send
    assert in_one_piece(receive, send) is send
