"""The users of `chaos_swap.py`: closed and open loops over kept-alive connections, and what they saw."""

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

import numpy as np

CONNECTIONS = 32
TIMEOUT_S = 10.0
MOST_WAIT_S = 10.0
_NAMES = re.compile(rb'"bundle":\{"id":"([0-9a-f]{16})"')
_ITEM = re.compile(rb'"item_id":"(.)')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RETRY_AFTER = re.compile(rb"(?i)\r\nretry-after: *(\d+)")
_REASON = re.compile(r"\((queue_\w+|displaced)\)")


class Users(NamedTuple):
    """Whom to ask, for how many users, and the first letter of the items of each bundle."""

    port: int
    letters: Mapping[str, str]
    num_users: int


@dataclass
class Tally:
    """What the load generator saw in one phase.

    Attributes:
        latencies_s, due_s: of every request that was answered: from the moment it was due; when that was.
        failed, failed_due_s: every request that was not answered the first time, and when it was due.
        waited, failed_again: of these, those that waited as told by `Retry-After`, and that failed once more then.
        mixed: answers with an item of another bundle than they name.
        started, seconds: of the phase.
    """

    latencies_s: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)
    failed_due_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    waited: int = 0
    failed_again: int = 0
    mixed: int = 0
    started: float = 0.0
    seconds: float = 0.0

    @property
    def asked(self) -> int:
        return len(self.latencies_s) + len(self.failed)

    @property
    def remaining(self) -> int:
        """Requests that were not answered, nor after one wait where the service asked for one."""
        return len(self.failed) - self.waited + self.failed_again

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.latencies_s, share)) * 1e3 if self.latencies_s else float("nan")

    def reasons(self) -> list[tuple[str, int]]:
        """Return why requests failed, most frequent first: the reason of a refusal, or the whole message."""
        return Counter(found[1] if (found := _REASON.search(one)) else one for one in self.failed).most_common()


class Answered(NamedTuple):
    """An answer: whether it is a slate, its content or what is wrong, and the seconds it asks to wait."""

    good: bool
    content: bytes
    retry_after_s: float | None


async def closed_loop(users: Users, seconds: float) -> float:
    """Return requests per second with every connection busy."""
    tally, until = Tally(), time.perf_counter() + seconds

    async def busy(number: int) -> None:
        connection = _Connection(users)
        turn = number
        while time.perf_counter() < until:
            await connection.ask(turn, time.perf_counter(), tally)
            turn += CONNECTIONS
        connection.close()

    await asyncio.gather(*(busy(number) for number in range(CONNECTIONS)))
    return len(tally.latencies_s) / seconds


async def open_loop(users: Users, rate: float, seconds: float, tally: Tally, stop: threading.Event) -> None:
    """Send Poisson arrivals for some seconds, or until told to stop; a pool of connections carries them.

    Who is refused with `Retry-After` has failed. Besides, each of them waits that long and asks once more, over a
    connection of its own: what is left then is what a patient client would not have got.
    """
    rng = np.random.default_rng(0)
    due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
    patient: list[asyncio.Task[None]] = []

    async def carry() -> None:
        connection = _Connection(users)
        while (one := await due.get()) is not None:
            wait_s = await connection.ask(*one, tally)
            if wait_s is not None:
                patient.append(asyncio.create_task(_once_more(users, one[0], wait_s, tally)))
        connection.close()

    carriers = [asyncio.create_task(carry()) for _ in range(CONNECTIONS)]
    tally.started = at = time.perf_counter()
    number = 0
    while at < tally.started + seconds and not stop.is_set():
        at += rng.exponential(1 / rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        due.put_nowait((number, at))
        number += 1
    for _ in carriers:
        due.put_nowait(None)
    await asyncio.gather(*carriers)
    tally.seconds = time.perf_counter() - tally.started
    await asyncio.gather(*patient)


async def _once_more(users: Users, number: int, wait_s: float, tally: Tally) -> None:
    tally.waited += 1
    await asyncio.sleep(min(wait_s, MOST_WAIT_S))
    connection = _Connection(users)
    try:
        answer = await connection.exchange(number)
        tally.failed_again += not answer.good
    except (TimeoutError, OSError, EOFError):
        tally.failed_again += 1
    finally:
        connection.close()


class _Connection:
    """One kept-alive connection; a broken one is counted and opened again."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, number: int, due: float, tally: Tally) -> float | None:
        """Ask for one user and note the answer; return the seconds after which to ask again, None for never."""
        try:
            answer = await self.exchange(number)
        except (TimeoutError, OSError, EOFError) as error:
            tally.failed.append(f"{type(error).__name__}: {error}"[:200])
            tally.failed_due_s.append(due)
            self.close()
            return None
        if not answer.good:
            tally.failed.append(answer.content.decode(errors="replace")[:400])
            tally.failed_due_s.append(due)
            return answer.retry_after_s
        tally.latencies_s.append(time.perf_counter() - due)
        tally.due_s.append(due)
        named = _NAMES.search(answer.content)
        letters = {letter.decode() for letter in _ITEM.findall(answer.content)}
        tally.mixed += letters != {self._users.letters.get(named[1].decode() if named else "")}
        return None

    async def exchange(self, number: int) -> Answered:
        """Send the request of one user.

        Raises:
            TimeoutError, OSError, EOFError: no answer came.
        """
        body = json.dumps({"user_id": f"u{number % self._users.num_users + 1:07d}", "k": 20}).encode()
        return await asyncio.wait_for(self._exchange(body), TIMEOUT_S)

    async def _exchange(self, body: bytes) -> Answered:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._users.port)
        reader, writer = self._streams
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        said = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(said)
        content = await reader.readexactly(int(length[1]) if length else 0)
        status = int(said.split(b" ", 2)[1])
        wait = _RETRY_AFTER.search(said) if status == HTTPStatus.TOO_MANY_REQUESTS else None
        good = status == HTTPStatus.OK
        return Answered(good, content if good else b"%d %b" % (status, content), float(wait[1]) if wait else None)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
