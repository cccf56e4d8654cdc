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


_OF_A_REPLICA = """ray::ServeReplica:retrank:retrank.initialize_and_get_metadata() (pid=13511, ip=127.0.0.1)
  File "replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "pathlib.py", line 1116, in mkdir
    os.mkdir(self, mode)
FileNotFoundError: [Errno 2] No such file or directory: '/proc/x'

The above exception was the direct cause of the following exception:

  File "segment_log.py", line 87, in __init__
    raise LogUnavailable(f"{stream}: cannot be written ({error.strerror}); free space or rights") from error
"""


def test_a_mistake_of_ours_is_told_in_its_own_words() -> None:
    raised = "retrank.serving.events.protocol.LogUnavailable: /proc/x: cannot be written (No such file); free space\n"
    assert ray_voice.raised_last(_OF_A_REPLICA + raised) == "/proc/x: cannot be written (No such file); free space"


def test_any_other_error_is_named_with_its_class_and_all_its_lines_on_one() -> None:
    died = "ray.exceptions.ActorDiedError: The actor died unexpectedly.\n\tclass_name: ServeReplica\n\tpid: 12\n"
    said = ray_voice.raised_last(_OF_A_REPLICA + died)
    assert said == "ray.exceptions.ActorDiedError: The actor died unexpectedly. class_name: ServeReplica pid: 12"


def test_words_that_end_with_no_error_are_kept() -> None:
    assert ray_voice.raised_last("Failed to start GCS.\n") == "Failed to start GCS."


def test_while_ray_does_not_run_its_error_is_all_there_is() -> None:
    assert ray_voice.why_no_replica("retrank", RuntimeError("Failed to start GCS.")) == "Failed to start GCS."
    assert ray_voice.why_no_replica("retrank", TimeoutError()) == "TimeoutError"


def test_before_ray_runs_the_newest_logs_are_named() -> None:
    assert ray_voice.logs_folder() == Path("/tmp/ray/session_latest/logs")
