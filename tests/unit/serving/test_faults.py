"""What callers are told of errors."""

import pytest

from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.faults import NotOffered, outside


def test_paths_of_the_service_go_to_its_log_and_not_to_callers(caplog: pytest.LogCaptureFixture) -> None:
    said = outside(LogUnavailable("/srv/events/1.log: not durable ([Errno 28] No space left on device)"))
    assert "/srv" not in said
    assert "send it again" in said
    assert "/srv/events/1.log: not durable" in caplog.text
    assert outside(NotOffered("set serving.events")) == "set serving.events"
