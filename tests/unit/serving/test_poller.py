"""What a service does beside its answers goes on whatever happens, and ends when it is told to."""

import threading

import pytest

from retrank.serving.poller import Poller


def test_a_poller_goes_on_after_a_failure_and_ends_when_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    done, times = threading.Event(), []

    def act() -> None:
        times.append(1)
        if len(times) == 1:
            raise ValueError("once")
        done.set()

    poller = Poller(act, 0.001, "poll-test")
    assert done.wait(30)
    poller.close()
    assert "poll-test failed" in caplog.text
    assert "poll-test" not in {thread.name for thread in threading.enumerate()}
