"""Send requests to an application in this process, or to a service behind a socket, and keep what was wrong."""

import asyncio
import http.client
import logging
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import ASGIApp

from stress.asgi import Answer, Hang, exchange, fault
from stress.fuzz_cases import Case

_MOST_FAULTS = 50


@dataclass
class Found:
    """What the requests of one engine saw.

    Attributes:
        statuses: answers by status; 0 are clients that hung up, or had to give up.
        faults: what went wrong -> which requests showed it, as their engine calls them.
        slowest_s: the longest that a request took.
        held: requests sent and bytes resident, at each look.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    slowest_s: float = 0.0
    seconds: float = 0.0
    held: list[tuple[int, int]] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())

    @property
    def num_faults(self) -> int:
        return sum(map(len, self.faults.values()))


class Target(Protocol):
    """Whoever answers."""

    def answer(self, case: Case) -> Answer:
        """Return the answer; raises what should never come out."""
        ...

    def said(self) -> str:
        """Return where the last error came from, if that is known."""
        ...


class InProcess:
    """The application in this process, on a loop of its own that stands still between two requests."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, within_s: float, said: "Tracebacks") -> None:
        self._app, self._loop, self._within_s, self._said = app, loop, within_s, said

    def answer(self, case: Case) -> Answer:
        self._said.last = ""
        return self._loop.run_until_complete(exchange(self._app, case, self._within_s))

    def said(self) -> str:
        return self._said.last


class OverSocket:
    """A running service; what a client of HTTP/1.1 cannot say at all is left out, see `can_say`."""

    def __init__(self, port: int, within_s: float) -> None:
        self._port, self._within_s = port, within_s

    def answer(self, case: Case) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._within_s)
        try:
            connection.putrequest(case.method, case.target, skip_accept_encoding=True)
            for name, value in case.headers:
                if name not in (b"host", b"content-length", b"transfer-encoding"):
                    connection.putheader(name.decode(), value)
            body = b"".join(case.chunks)
            connection.putheader("Content-Length", str(len(body) + case.hangs_up))
            connection.endheaders()
            with suppress(BrokenPipeError):  # refused before the end of the body: the answer is there to be read
                connection.send(body)
            if case.hangs_up:
                return Answer(0, {}, b"")
            found = connection.getresponse()
            headers = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, headers, found.read())
        except TimeoutError:
            raise Hang(f"no answer within {self._within_s:g} s") from None
        finally:
            connection.close()

    def said(self) -> str:
        return ""


def can_say(case: Case) -> bool:
    """Tell whether `http.client` lets a request pass; what it refuses never reaches a wire."""
    target = case.target
    plain = target.isascii() and target.startswith("/") and target.isprintable() and " " not in target
    headers = all(b"\r" not in value and b"\n" not in value for _, value in case.headers)
    named = {name for name, _ in case.headers}
    return bool(plain and headers and case.method.isalpha() and case.method not in ("CONNECT", "HEAD")) and not (
        named & {b"expect", b"upgrade"}  # the front answers these by itself
    )


class Judge:
    """Sends cases one after the other, and notes what is wrong with the answers."""

    def __init__(self, target: Target, *, most_s: float) -> None:
        self._target, self._ends = target, time.perf_counter() + most_s
        self.found = Found()

    @property
    def is_over(self) -> bool:
        """Whether the time is up, or there is more to look at than anybody would."""
        return time.perf_counter() > self._ends or self.found.num_faults >= _MOST_FAULTS

    def send(self, case: Case, name: str) -> None:
        """Send one request; `name` says which one it was, so that it can be sent again."""
        started = time.perf_counter()
        wrong = self._wrong(case)
        took_s = time.perf_counter() - started
        self.found.slowest_s, self.found.seconds = max(self.found.slowest_s, took_s), self.found.seconds + took_s
        if wrong is not None:
            self.found.faults.setdefault(wrong, []).append(name)
            print(f"request {name}: {wrong}", flush=True)

    def _wrong(self, case: Case) -> str | None:
        try:
            answer = self._target.answer(case)
        except (Hang, AssertionError) as error:
            self.found.statuses[0] += 1
            return f"{case.method} {case.target[:40]}: {error}"
        except Exception as error:  # noqa: BLE001  (nothing may come out of an application)
            self.found.statuses[0] += 1
            return f"{type(error).__name__} came out instead of an answer: {str(error)[:150]}"
        self.found.statuses[answer.status] += 1
        wrong = fault(case, answer)
        return None if wrong is None else f"{wrong} {self._target.said()}".strip()


class Tracebacks(logging.Handler):
    """Keeps the last traceback that the service logged: where a 500 came from."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
            self.last = f"{type(error).__name__}: {str(error)[:150]}{where}"


@contextmanager
def in_process(app: ASGIApp, within_s: float) -> Iterator[InProcess]:
    """Yield the application as a target; what it logs is kept instead of printed."""
    said, logger = Tracebacks(), logging.getLogger("retrank")
    before = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [said]
    loop = asyncio.new_event_loop()
    try:
        yield InProcess(app, loop, within_s, said)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        logger.propagate, logger.handlers = before
