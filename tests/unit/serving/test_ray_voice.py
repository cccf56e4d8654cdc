"""What Ray would print becomes lines of the service's log."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_serving import ray_worker

from retrank.serving import ray_voice

SAID = {"lines": ["A worker died or was killed\n"], "pid": "raylet", "is_err": False}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = ray_worker.print_to_stdstream
    yield
    ray_worker.print_to_stdstream = before  # also where a test took it away


def test_what_the_node_manager_reports_is_a_warning_and_not_printed(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ray_worker.print_to_stdstream(SAID, ignore_prefix=False)
    assert "(raylet)" in capsys.readouterr().out, "Ray prints it"
    ray_voice.retell()
    ray_worker.print_to_stdstream(SAID, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    [line] = [record for record in caplog.records if record.name == "retrank.ray"]
    assert (line.levelno, line.getMessage()) == (logging.WARNING, "raylet: A worker died or was killed")


def test_nothing_is_said_of_what_is_ended_on_purpose(caplog: pytest.LogCaptureFixture) -> None:
    ray_voice.retell()
    with ray_voice.silenced():
        ray_worker.print_to_stdstream(SAID, ignore_prefix=False)
    assert caplog.records == []


def test_a_ray_that_prints_elsewhere_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(ray_worker, "print_to_stdstream")
    ray_voice.retell()
    assert "no lines of this log" in caplog.text


def test_before_ray_runs_the_newest_logs_are_named() -> None:
    assert ray_voice.logs_folder() == Path("/tmp/ray/session_latest/logs")
