"""Admission: the promises hold for every schedule, and each rule of the queue has its small example."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import VirtualLoop, run_virtually

from retrank.serving.guard.admission import Admission, Priority, Refused
from retrank.serving.guard.settings import LaneSettings


class Job(NamedTuple):
    """A request: when it arrives, how long it computes (the loop stands still) and waits, when its client goes.

    `deadline` is what it says of itself, seconds after its arrival.
    """

    arrives: float
    priority: Priority = Priority.INTERACTIVE
    computes: float = 0.0
    waits: float = 0.0
    gives_up: float | None = None
    deadline: float | None = None


@dataclass
class Log:
    """What happened, in order."""

    started: list[int] = field(default_factory=list)
    waited: dict[int, float] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    refused_after: dict[int, float] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    most_in_flight: int = 0


async def _play(lane: Admission, jobs: list[Job]) -> Log:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    log = Log()
    running = 0

    async def one(number: int, job: Job) -> None:
        nonlocal running
        await asyncio.sleep(job.arrives)
        arrived = loop.time()
        try:
            await lane.enter(job.priority, job.deadline)
        except Refused as refused:
            log.refused[number] = refused.reason
            log.refused_after[number] = loop.time() - arrived
            return
        try:
            running += 1
            log.most_in_flight = max(log.most_in_flight, running)
            log.started.append(number)
            log.waited[number] = loop.time() - arrived
            loop.spend(job.computes)
            await asyncio.sleep(job.waits)
        finally:
            running -= 1
            lane.leave()

    tasks = [asyncio.create_task(one(number, job)) for number, job in enumerate(jobs)]
    for task, job in zip(tasks, jobs, strict=True):
        if job.gives_up is not None:
            loop.call_later(job.arrives + job.gives_up, task.cancel)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    log.cancelled = [number for number, outcome in enumerate(done) if isinstance(outcome, asyncio.CancelledError)]
    assert [outcome for outcome in done if isinstance(outcome, Exception)] == []
    return log


def _lane(concurrency: int = 1, max_queued: int = 8, max_age_s: float = 1.0) -> Admission:
    return Admission(LaneSettings(concurrency=concurrency, max_queued=max_queued, max_age_s=max_age_s))


MOMENTS = st.integers(0, 30).map(lambda ticks: ticks / 10)
JOBS = st.lists(
    st.builds(
        Job,
        arrives=MOMENTS,
        priority=st.sampled_from(Priority),
        computes=st.sampled_from([0.0, 0.0, 0.1, 0.3]),
        waits=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
        gives_up=st.none() | MOMENTS,
        deadline=st.none() | MOMENTS,
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(jobs=JOBS, concurrency=st.integers(1, 4), max_queued=st.integers(0, 5))
def test_every_schedule_keeps_the_limits_and_loses_nobody(jobs: list[Job], concurrency: int, max_queued: int) -> None:
    lane = _lane(concurrency, max_queued)
    log = run_virtually(asyncio.wait_for(_play(lane, jobs), 10_000.0))
    assert log.most_in_flight <= concurrency
    # An age is looked at when the slot is granted; whoever computes in that very turn of the loop still comes before.
    for number, waited in log.waited.items():
        said = jobs[number].deadline
        assert waited <= (1.0 if said is None else min(1.0, said / 2)) + 0.3 + 1e-9
    assert {*log.started, *log.refused, *log.cancelled} == set(range(len(jobs)))
    assert (lane.in_flight, lane.waiting) == (0, 0)


@settings(max_examples=100)
@given(jobs=JOBS.map(lambda jobs: [job._replace(waits=0.0, gives_up=None) for job in jobs]))
def test_without_overload_nobody_is_refused(jobs: list[Job]) -> None:
    spread = [job._replace(arrives=float(number)) for number, job in enumerate(jobs)]
    log = run_virtually(_play(_lane(), spread))
    assert log.started == list(range(len(jobs)))
    assert set(log.waited.values()) <= {0.0}


def test_a_free_slot_is_taken_at_once() -> None:
    log = run_virtually(_play(_lane(concurrency=2), [Job(0.0, waits=1.0), Job(0.1, waits=1.0)]))
    assert log.waited == {0: 0.0, 1: 0.0}


def test_the_more_urgent_goes_first_and_equals_in_order_of_arrival() -> None:
    busy = Job(0.0, waits=0.5)
    waiting = [
        Job(0.1, Priority.BATCH),
        Job(0.2, Priority.PREFETCH),
        Job(0.3, Priority.INTERACTIVE),
        Job(0.35, Priority.INTERACTIVE),
    ]
    assert run_virtually(_play(_lane(), [busy, *waiting])).started == [0, 3, 4, 2, 1]


def test_a_full_queue_gives_up_the_newest_of_the_least_urgent() -> None:
    busy = Job(0.0, waits=0.5)
    batch = [Job(0.1, Priority.BATCH), Job(0.2, Priority.BATCH)]
    log = run_virtually(_play(_lane(max_queued=2), [busy, *batch, Job(0.3, Priority.PREFETCH)]))
    assert log.refused == {2: "displaced"}
    assert log.started == [0, 3, 1]


def test_a_full_queue_of_equals_refuses_the_one_that_arrives() -> None:
    log = run_virtually(_play(_lane(max_queued=1), [Job(0.0, waits=0.5), Job(0.1), Job(0.2)]))
    assert log.refused == {2: "queue_full"}


def test_one_stall_does_not_close_a_queue_that_moves_quickly() -> None:
    """As when a bundle is loaded: what comes during 60 ms in which nothing moves, and right after, is answered."""
    calm = [Job(at * 0.002, computes=0.001) for at in range(100) for _ in range(2)]
    stall = [Job(0.3, computes=0.06), Job(0.3, computes=0.001)]
    behind = [Job(0.3005 + at * 0.002, computes=0.001) for at in range(80)]
    lane = Admission(LaneSettings(concurrency=1, max_queued=64, max_age_s=0.1))
    assert run_virtually(_play(lane, [*calm, *stall, *behind])).refused == {}


def test_who_could_not_be_served_in_time_hears_so_at_once() -> None:
    """One request a second, three may wait a second each: once the pace is known, the queue stays short."""
    jobs = [Job(number * 0.2, waits=0.4) for number in range(60)]
    log = run_virtually(_play(_lane(max_queued=50), jobs))
    late = [log.refused[number] for number in sorted(log.refused) if number > 40]
    assert late.count("queue_slow") > late.count("queue_age")


def test_an_overload_that_is_long_over_refuses_nobody() -> None:
    overload = [Job(number * 0.2, waits=0.4) for number in range(60)]
    burst = [Job(3_600.0, computes=0.01) for _ in range(6)]
    log = run_virtually(_play(_lane(max_queued=50), [*overload, *burst]))
    assert not {*range(60, 66)} & {*log.refused}


def test_a_single_stall_does_not_close_the_queue() -> None:
    stalled = [Job(0.0, waits=50.0), *(Job(49.5 + number / 100) for number in range(3))]
    later = [Job(60.0 + number * 0.2, waits=0.3) for number in range(4)]
    log = run_virtually(_play(_lane(max_queued=50), [*stalled, *later]))
    assert log.refused == {}


def test_whoever_is_overdue_makes_room_before_anybody_else() -> None:
    """The loop stands still, so no timer could refuse the urgent one before the next request arrives."""

    async def scene() -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        lane = _lane(max_queued=1)
        await lane.enter(Priority.INTERACTIVE)
        overdue = asyncio.create_task(lane.enter(Priority.INTERACTIVE))
        await asyncio.sleep(0.1)
        loop.spend(2.0)
        next_one = asyncio.create_task(lane.enter(Priority.BATCH))
        (refused,) = await asyncio.gather(overdue, return_exceptions=True)
        assert isinstance(refused, Refused)
        lane.leave()
        await next_one
        return refused.reason, lane.in_flight

    assert run_virtually(scene()) == ("queue_age", 1)


@pytest.mark.parametrize("priority", list(Priority))
def test_nobody_waits_longer_than_the_age_limit(priority: Priority) -> None:
    log = run_virtually(_play(_lane(), [Job(0.0, waits=5.0), Job(0.0, priority)]))
    assert log.refused == {1: "queue_age"}


LANE = LaneSettings()


@pytest.mark.parametrize("apart_s", [0.0, 0.005])
def test_a_burst_is_answered_whole_when_its_callers_have_the_time(apart_s: float) -> None:
    """64 calls, half a second's work together: there is time for all of them when each has two, as it says."""
    burst = [Job(at * apart_s, computes=0.008, deadline=2.0) for at in range(LANE.max_queued)]
    log = run_virtually(_play(Admission(LANE), burst))
    assert (log.refused, len(log.started)) == ({}, len(burst))
    silent = run_virtually(_play(Admission(LANE), [job._replace(deadline=None) for job in burst]))
    assert max(silent.waited.values()) <= LANE.max_age_s
    assert set(silent.refused.values()) <= {"queue_age", "queue_slow"}
    assert silent.refused


def test_nobody_waits_for_more_than_half_of_the_deadline() -> None:
    hurried = [Job(0.0, computes=0.008, deadline=0.1) for _ in range(30)]
    log = run_virtually(_play(Admission(LANE), hurried))
    assert max(log.waited.values()) <= 0.05
    assert len(log.started) + len(log.refused) == 30


def test_a_lasting_overload_keeps_its_queue_short_however_long_the_deadlines_are() -> None:
    """Twice as much as can be answered, for ten seconds: nearly as much is, soon, and refusals are instant."""
    work_s = 0.004
    jobs = [Job(at * work_s / 2, computes=work_s, deadline=2.0) for at in range(5_000)]
    log = run_virtually(_play(Admission(LANE), jobs))
    assert len(log.started) >= 0.95 * 10.0 / work_s
    later = [waited for number, waited in log.waited.items() if jobs[number].arrives > 1.0]
    assert max(later) <= LANE.max_age_s
    instant = sorted(log.refused_after.values())
    assert instant[int(0.99 * len(instant))] <= work_s


def test_a_slot_granted_to_a_client_that_just_left_goes_to_the_next() -> None:
    jobs = [Job(0.0, waits=0.5), Job(0.1, gives_up=0.4), Job(0.2)]
    log = run_virtually(_play(_lane(), jobs))
    assert log.started[-1] == 2


def test_arrivals_are_refused_between_two_answers_not_after_all_of_them() -> None:
    """Five requests that compute 0.1 s each are there at once; the one too many hears so before the fifth is done."""

    async def scene() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        lane = _lane(concurrency=4, max_queued=2)
        refused_at: list[float] = []

        async def arrive(outcome: Literal["start", "refuse"]) -> None:
            try:
                await lane.enter(Priority.INTERACTIVE)
            except Refused:
                refused_at.append(loop.time())
                assert outcome == "refuse"
                return
            loop.spend(0.1)
            lane.leave()

        await asyncio.gather(*(arrive("start") for _ in range(3)), *(arrive("refuse") for _ in range(4)))
        return max(refused_at), loop.time()

    last_refusal, finished = run_virtually(scene())
    assert last_refusal <= 0.1 < finished
