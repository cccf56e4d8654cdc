"""The life of a call, step by step, with a clock that the test moves."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.client.errors import CallFailed, CallRefused
from retrank.client.flow import Caller, Flow, Reply, Send, Wait, retry_after
from retrank.client.settings import ClientSettings

OK, BUSY, GONE = Reply(200, {}, b"{}"), Reply(429, {"retry-after": "2"}, b""), Reply(503, {}, b"")


class World:
    """Time that passes only when a step takes some."""

    def __init__(self, settings: ClientSettings) -> None:
        self.now = 100.0
        self.caller = Caller(settings, lambda: self.now, random.Random(1))

    def drive(self, flow: Flow, replies: list[Reply | None], takes_s: float = 0.01) -> tuple[Reply, list[Send | Wait]]:
        steps: list[Send | Wait] = []
        left = list(replies)
        try:
            step = next(flow)
            while True:
                steps.append(step)
                if isinstance(step, Send):
                    self.now += takes_s
                    step = flow.send(left.pop(0))
                else:
                    self.now += step.seconds
                    step = flow.send(None)
        except StopIteration as ended:
            return ended.value, steps


def test_a_good_answer_ends_the_call_at_once() -> None:
    world = World(ClientSettings())
    reply, steps = world.drive(world.caller.call(None), [OK])
    assert reply is OK
    assert len(steps) == 1


@pytest.mark.parametrize("bad", [None, GONE, Reply(500, {}, b""), Reply(502, {}, b""), Reply(504, {}, b"")])
def test_what_may_pass_is_tried_again(bad: Reply | None) -> None:
    world = World(ClientSettings())
    reply, steps = world.drive(world.caller.call(None), [bad, bad, OK])
    assert reply is OK
    assert [type(step) for step in steps] == [Send, Wait, Send, Wait, Send]


def test_a_404_from_a_service_that_is_starting_may_pass_and_its_own_404_may_not() -> None:
    world = World(ClientSettings())
    unrouted = Reply(404, {"content-type": "text/plain"}, b"Path '/v1/recommend' not found")
    assert world.drive(world.caller.call(None), [unrouted, OK])[0] is OK
    own = Reply(404, {"content-type": "application/problem+json"}, b'{"code": "not_found"}')
    with pytest.raises(CallRefused, match="404"):
        world.drive(world.caller.call(None), [own, OK])


def test_the_service_says_how_long_to_wait() -> None:
    world = World(ClientSettings(deadline_s=10))
    _, steps = world.drive(world.caller.call(None), [BUSY, OK])
    assert isinstance(steps[1], Wait)
    assert steps[1].seconds == 2.0


def test_no_attempt_starts_that_would_begin_after_the_deadline() -> None:
    world = World(ClientSettings(deadline_s=1))
    with pytest.raises(CallFailed, match="status 429") as caught:
        world.drive(world.caller.call(None), [BUSY, OK])
    assert caught.value.attempts == 1
    assert world.now < 101


def test_an_attempt_may_take_no_longer_than_what_is_left() -> None:
    world = World(ClientSettings(deadline_s=0.1, attempt_s=5))
    _, steps = world.drive(world.caller.call(None), [GONE, OK], takes_s=0.04)
    sends = [step.timeout_s for step in steps if isinstance(step, Send)]
    assert sends[0] == pytest.approx(0.1)
    assert sends[1] < 0.06


def test_a_refusal_is_not_tried_again_and_names_the_problem() -> None:
    world = World(ClientSettings())
    problem = Reply(422, {}, b'{"title": "Unprocessable", "detail": "/k: too large", "code": "invalid_field"}')
    with pytest.raises(CallRefused, match="422 invalid_field: /k: too large") as caught:
        world.drive(world.caller.call(None), [problem])
    assert caught.value.status == 422


def test_a_refusal_that_is_not_json_is_shown_as_it_is() -> None:
    world = World(ClientSettings())
    with pytest.raises(CallRefused, match="Bad request"):
        world.drive(world.caller.call(None), [Reply(400, {}, b"<h1>Bad request</h1>")])


def test_retries_run_out_when_everything_fails() -> None:
    world = World(ClientSettings(retry_reserve=3, retry_share=0.1, breaker_failures=1_000))
    sent = 0
    for _ in range(100):
        with pytest.raises(CallFailed) as caught:
            world.drive(world.caller.call(None), [GONE] * 3)
        sent += caught.value.attempts
    assert sent <= 100 + 3 + 100 * 0.1


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_call_try() -> None:
    world = World(ClientSettings(max_attempts=1, breaker_failures=5, breaker_open_s=1))
    for _ in range(5):
        with pytest.raises(CallFailed):
            world.drive(world.caller.call(None), [None])
    with pytest.raises(CallFailed, match="not called") as caught:
        world.drive(world.caller.call(None), [])
    assert caught.value.attempts == 0
    world.now += 1.1
    trial = world.caller.call(None)
    assert isinstance(next(trial), Send)
    with pytest.raises(CallFailed, match="not called"):
        world.drive(world.caller.call(None), [])
    with pytest.raises(StopIteration):
        trial.send(OK)
    assert world.drive(world.caller.call(None), [OK])[0] is OK


def test_a_service_that_sheds_load_is_there_and_does_not_open_the_breaker() -> None:
    world = World(ClientSettings(max_attempts=1, breaker_failures=2))
    for _ in range(10):
        with pytest.raises(CallFailed):
            world.drive(world.caller.call(None), [BUSY])
    assert not world.caller.breaker.is_open


@pytest.mark.parametrize("text", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5", "٣"])
def test_a_wait_that_is_not_whole_seconds_is_not_guessed(text: str) -> None:
    assert retry_after(Reply(429, {"retry-after": text}, b"")) == 0.0


@given(
    replies=st.lists(st.sampled_from([None, BUSY, GONE, OK, Reply(404, {}, b"")]), min_size=10, max_size=10),
    deadline=st.floats(0.001, 5),
    takes=st.floats(0, 1),
    most=st.integers(1, 10),
)
def test_whatever_happens_a_call_ends_near_its_deadline(
    replies: list[Reply | None], deadline: float, takes: float, most: int
) -> None:
    world = World(ClientSettings(max_attempts=most, retry_reserve=100))
    with suppress(CallFailed, CallRefused):
        world.drive(world.caller.call(deadline), replies, takes_s=min(takes, deadline))
    assert world.now - 100 <= deadline + min(takes, deadline) + 1e-9
