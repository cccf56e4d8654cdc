"""Who holds a port, told from /proc; real processes that listen, under the names that HAProxy and Ray give theirs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from retrank.contract.errors import ConfigError
from retrank.serving.before_start import look_around
from retrank.serving.ingress import free_port
from retrank.serving.port_holders import end_left_behind, holders, is_left_behind
from retrank.serving.settings import Settings

LISTEN = (
    "import socket, time; held = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); time.sleep(60)"
)
CHILD = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(60)"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that goes with the test, and whatever it starts."""
    with ExitStack() as stack:

        def begin(*words: str, name: str = sys.executable) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [name, *words], executable=sys.executable, stdout=subprocess.PIPE, start_new_session=True
            )
            stack.enter_context(process)
            stack.callback(_end, process.pid)
            return process

        yield begin


def _end(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _listening(port: int) -> list[int]:
    deadline = time.monotonic() + 20
    while not (found := holders(port)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [one.pid for one in found]


def _as_haproxy(port: int, folder: str) -> list[str]:
    return ["-c", LISTEN.format(port=port), "-db", "-f", f"{folder}/node/haproxy.cfg"]


def test_a_port_names_the_process_that_listens_on_it(start: Start) -> None:
    port = free_port()
    process = start("-c", LISTEN.format(port=port))
    assert _listening(port) == [process.pid]
    [held] = holders(port)
    assert held.parent == os.getpid()
    assert str(process.pid) in str(held)
    assert "create_server" in str(held)


def test_nobody_holds_a_free_port() -> None:
    assert holders(free_port()) == []


def test_a_stranger_is_named_and_left_alone(start: Start, tmp_path: Path) -> None:
    port = free_port()
    process = start("-c", LISTEN.format(port=port))
    _listening(port)
    assert end_left_behind(port, within_s=1.0) == []
    settings = Settings.model_validate({"bundle": tmp_path, "port": port})
    with pytest.raises(ConfigError, match=f"process {process.pid} .*create_server"):
        look_around(settings, print)
    assert process.poll() is None


def test_a_haproxy_without_its_service_is_ended_and_the_start_goes_on(start: Start, tmp_path: Path) -> None:
    port, said = free_port(), list[str]()
    process = start(*_as_haproxy(port, "/tmp/retrank-abc"))
    _listening(port)
    settings = Settings.model_validate({"bundle": tmp_path, "port": port, "admin": {"port": free_port()}})
    look_around(settings, said.append)
    assert process.wait(5) == -signal.SIGTERM
    assert f"ended process {process.pid}" in said[0]


def test_the_haproxy_of_a_living_service_stays(start: Start) -> None:
    """Its parent is a worker of Ray, whose parent is the node manager."""
    port = free_port()
    worker = [sys.executable, "-c", CHILD, sys.executable, *_as_haproxy(port, "/tmp/retrank-abc")]
    named = ["import os, sys; os.execv(sys.executable, ['ray::HAProxyManager', *sys.argv[2:]])", *worker]
    start("-c", CHILD, sys.executable, "-c", *named, name="/opt/ray/raylet")
    _listening(port)
    [held] = holders(port)
    assert not is_left_behind(held)
    assert end_left_behind(port, within_s=1.0) == []


def test_a_worker_whose_node_manager_was_killed_keeps_no_haproxy(start: Start) -> None:
    port = free_port()
    start("-c", CHILD, sys.executable, *_as_haproxy(port, "/tmp/retrank-abc"), name="ray::HAProxyManager")
    pids = _listening(port)
    assert [one.pid for one in end_left_behind(port, within_s=5.0)] == pids
    assert holders(port) == []


def test_a_haproxy_of_somebody_else_is_none_of_ours(start: Start) -> None:
    port = free_port()
    start(*_as_haproxy(port, "/etc/haproxy"))
    _listening(port)
    [held] = holders(port)
    assert not is_left_behind(held)
