"""A service that is killed hard leaves nothing behind that keeps it from being started again."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from serving_process import command, wait_until_ready

from retrank.serving.ingress import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["the whole group", "the first process alone"])
def test_a_service_that_was_killed_starts_again_on_its_port(
    tiny_bundle: Path, tmp_path: Path, kill: Callable[[int, int], None]
) -> None:
    own = [f"serving.port={free_port()}", f"serving.admin.port={free_port()}", f"serving.service.folder={tmp_path}"]
    for end in (signal.SIGKILL, signal.SIGTERM):
        with (tmp_path / "log").open("w") as log, subprocess.Popen(
            command(f"bundle={tiny_bundle}", *own), stdout=log, stderr=log, start_new_session=True
        ) as process:  # fmt: skip
            wait_until_ready(process, tmp_path / "log")
            kill(process.pid, signal.SIGKILL) if end == signal.SIGKILL else process.send_signal(end)
    assert process.returncode == 0
