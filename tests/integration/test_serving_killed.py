"""What is killed hard comes back: a service on its port, the front of a living one."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from living_service import eventually
from serving_process import Service, command, wait_until_ready

from retrank.serving.ingress import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@contextmanager
def service(bundle: Path, tmp_path: Path, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service that is ready, in a group of its own; to be ended by who asks for it."""
    own = [f"serving.admin.port={free_port()}", f"serving.service.folder={tmp_path / 'state'}"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        command(f"bundle={bundle}", *own, *overrides), stdout=log, stderr=log, start_new_session=True
    ) as process:  # fmt: skip
        wait_until_ready(process, tmp_path / "log")
        yield process


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["the whole group", "the first process alone"])
def test_a_service_that_was_killed_starts_again_on_its_port(
    tiny_bundle: Path, tmp_path: Path, kill: Callable[[int, int], None]
) -> None:
    port = f"serving.port={free_port()}"
    with service(tiny_bundle, tmp_path, port) as process:
        kill(process.pid, signal.SIGKILL)
    with service(tiny_bundle, tmp_path, port) as process:
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def test_a_front_that_was_killed_is_started_again_and_answers(tiny_bundle: Path, tmp_path: Path) -> None:
    port = free_port()

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    with service(tiny_bundle, tmp_path, f"serving.port={port}") as process:
        (front,) = _fronts(process)
        os.kill(front, signal.SIGKILL)
        eventually(lambda: not answers(), within_s=10.0)
        eventually(answers, within_s=60.0)
        started = _fronts(process)
        process.send_signal(signal.SIGTERM)
    assert len(started) == 1
    assert front not in started
    assert process.returncode == 0


def _fronts(process: subprocess.Popen[bytes]) -> list[int]:
    processes = Service("", 0, process.pid).processes()
    return [pid for pid, name in processes.items() if "HAProxyManager" in name]
