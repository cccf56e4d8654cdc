"""Who may start now: bounded concurrency, and in front of it a queue that is bounded in length and in age.

Answering keeps the event loop busy for milliseconds. Were every request that has arrived started at once, they would
all run one after the other before the loop looks at a socket again, and nobody could be turned away in time. So the
loop turns three times after a start: one turn makes the answer, one reads what arrived meanwhile, and in the third it
is queued or refused while the next one is chosen, whose answer the fourth makes. Whoever is turned away has waited for
what was left of one answer.

A queue that may grow until the last one in it is just served in time refuses half of those late, at the age limit. So
whoever would have to wait for more than half of it, as fast as the queue moves now, is refused on arrival.

How old one may get is `max_age_s`: in a lasting overload a longer queue answers no more of them, it makes all of them
wait. A burst is no overload. Who says by when an answer is of use, and arrives no later than half of `burst_age_s`
after somebody found nobody waiting, may wait up to `burst_age_s`. Nobody waits for more than half of what the caller
has left: the other half is for the answer and its way. Source: the distinction is that of CoDel, Nichols and Jacobson,
Controlling Queue Delay, ACM Queue 2012; deviation: by arrival, so that refusals stay immediate.

    arrive ──► free slot and turn? ──► start
                 │ no
                 ▼
               queue: highest priority first, then oldest first
                 │ moves too slowly: the one that arrives goes, and hears so at once
                 │ full: whoever waited too long goes first, then the newest of the lowest priority
                 │ waited as long as it may: goes
                 ▼
               Refused

One object belongs to one event loop and needs no lock; time is the loop's. Invariants, tested with random schedules:
never more than `limit` in flight, nobody starts beyond its age, no free slot while somebody waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Literal, NamedTuple

from retrank.serving.guard.settings import LaneSettings

ShedReason = Literal["queue_full", "queue_slow", "queue_age", "displaced"]
_SMOOTHING = 0.1  # weight of the newest time between two starts
_MOST_STALL = 4.0  # times the usual time between two starts that one of them may count
_PATIENCE = 0.5  # share of the age limit that a request may have ahead of it when it arrives
_OF_BURST = 0.5  # share of the age limit of a burst that its last request may come after the first
_OF_DEADLINE = 0.5  # share of the time left to a request that it may wait
_TURNS = 3  # of the loop after a start, before the next one: with two, the next answer comes before the refusal


class Priority(IntEnum):
    """How long a request may be put off; a lower number goes first."""

    INTERACTIVE = 0
    PREFETCH = 1
    BATCH = 2


class Refused(Exception):  # noqa: N818  (an outcome, not a mistake)
    """The request was turned away; `reason` says why."""

    def __init__(self, reason: ShedReason) -> None:
        super().__init__(reason)
        self.reason: ShedReason = reason


class _Waiter(NamedTuple):
    turn: "asyncio.Future[float]"  # how long it waited, s
    arrived: float
    due: float  # when it is too old
    timer: asyncio.TimerHandle


def _ignore(delta: int) -> None:
    del delta


class Admission:
    """One lane: requests that share a limit."""

    def __init__(self, settings: LaneSettings, *, on_in_flight: Callable[[int], None] = _ignore) -> None:
        """Start empty.

        Args:
            settings: limit, length and age of the queue.
            on_in_flight: told +1 and -1 as requests start and end.
        """
        self.limit = settings.concurrency
        self.in_flight = 0
        self._settings = settings
        self._on_in_flight = on_in_flight
        self._turns_left = 0  # until somebody may start again
        self._last_start = 0.0
        self._calm_at = 0.0  # when somebody arrived and nobody waited
        self._pace_s = 0.0  # smoothed time between two starts while somebody waits
        self._queues: tuple[deque[_Waiter], ...] = tuple(deque() for _ in Priority)

    @property
    def waiting(self) -> int:
        """How many are queued."""
        return sum(len(queue) for queue in self._queues)

    async def enter(self, priority: Priority, deadline_s: float | None = None) -> float:
        """Wait for a slot; `leave` must follow.

        Args:
            priority: how urgent it is.
            deadline_s: seconds after which the answer is of no use; None when the caller does not say.

        Returns:
            Seconds spent in the queue.

        Raises:
            Refused: the queue was full, the request waited too long, or a more urgent one took its place.
        """
        loop = asyncio.get_running_loop()
        waiting = self.waiting
        if not waiting:
            self._calm_at = loop.time()
        if self.in_flight < self.limit and not self._turns_left and not waiting:
            if loop.time() - self._last_start > self._settings.max_age_s:
                self._pace_s = 0.0  # nobody waited for that long: what was learned is of another time
            self._start(loop)
            return 0.0
        ahead = sum(len(queue) for queue in self._queues[: priority + 1])
        age_s = self._age_s(deadline_s, loop.time())
        if ahead * self._pace_s > _PATIENCE * age_s:
            raise Refused("queue_slow")
        if waiting >= self._settings.max_queued:
            self._make_room(priority, loop.time())
        queue = self._queues[priority]
        waiter = self._join(queue, loop, age_s)
        self._pump(loop)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._discard(queue, waiter)
            elif waiter.turn.exception() is None:
                self.leave()  # the slot came at the moment the client went away: the next one gets it
            raise
        finally:
            waiter.timer.cancel()

    def leave(self) -> None:
        """Give the slot back."""
        self.in_flight -= 1
        self._on_in_flight(-1)
        self._pump(asyncio.get_running_loop())

    def _age_s(self, deadline_s: float | None, now: float) -> float:
        """Return how long a request that arrives now may wait."""
        most = self._settings.max_age_s
        if deadline_s is None:
            return most
        if now - self._calm_at <= _OF_BURST * self._settings.burst_age_s:
            most = max(most, self._settings.burst_age_s)
        return min(most, _OF_DEADLINE * deadline_s)

    def _join(self, queue: deque[_Waiter], loop: asyncio.AbstractEventLoop, age_s: float) -> _Waiter:
        turn: asyncio.Future[float] = loop.create_future()
        timer = loop.call_later(age_s, self._expire, queue, turn)
        waiter = _Waiter(turn, loop.time(), loop.time() + age_s, timer)
        queue.append(waiter)
        return waiter

    def _expire(self, queue: deque[_Waiter], turn: "asyncio.Future[float]") -> None:
        for waiter in queue:
            if waiter.turn is turn:
                self._discard(queue, waiter)
                _refuse(turn, "queue_age")
                return

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.in_flight += 1
        self._turns_left = _TURNS
        self._last_start = loop.time()
        self._on_in_flight(1)
        loop.call_soon(self._next_turn, loop)

    def _keep_pace(self, since_last_s: float) -> None:
        """Learn how fast the queue moves; a stall, as when a bundle is loaded, is not how fast it moves from now on."""
        most = _MOST_STALL * self._pace_s if self._pace_s else self._settings.max_age_s
        newest = min(since_last_s, most)
        self._pace_s += _SMOOTHING * (newest - self._pace_s)

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns_left -= 1
        if self._turns_left:
            loop.call_soon(self._next_turn, loop)
        else:
            self._pump(loop)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start whoever is next, if there is a slot and the loop has turned since the last start."""
        while self.in_flight < self.limit and not self._turns_left:
            waiter = self._next()
            if waiter is None:
                return
            if loop.time() > waiter.due:
                _refuse(waiter.turn, "queue_age")
                continue
            waiter.turn.set_result(loop.time() - waiter.arrived)
            self._keep_pace(loop.time() - self._last_start)
            self._start(loop)

    def _next(self) -> _Waiter | None:
        for queue in self._queues:
            while queue:
                waiter = queue.popleft()
                if not waiter.turn.done():
                    return waiter
        return None

    def _make_room(self, priority: Priority, now: float) -> None:
        """Refuse an overdue request, else the newest one that is less urgent, else the one that arrives.

        Only the oldest of each priority is looked at: timers and `_pump` find those that are due before it.
        """
        overdue = [queue for queue in self._queues if queue and now > queue[0].due]
        if overdue:
            _refuse(min(overdue, key=lambda queue: queue[0].due).popleft().turn, "queue_age")
            return
        for queue in reversed(self._queues[priority + 1 :]):
            if queue:
                _refuse(queue.pop().turn, "displaced")
                return
        raise Refused("queue_full")

    @staticmethod
    def _discard(queue: deque[_Waiter], waiter: _Waiter) -> None:
        if waiter in queue:
            queue.remove(waiter)


def _refuse(turn: "asyncio.Future[float]", reason: ShedReason) -> None:
    if not turn.done():
        turn.set_exception(Refused(reason))
