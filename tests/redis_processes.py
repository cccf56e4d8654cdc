"""Real redis-server processes on loopback ports, without persistence, for tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

_SLOTS = 16_384
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class RedisProcess:
    """One running server."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Stop it from answering; it keeps its connections."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; a frozen one too."""
        self.process.kill()
        self.process.wait(timeout=_PATIENCE_S)


def need_redis() -> None:
    """Skip where redis-server is not installed; fail in CI, which installs it."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is missing; .ci/run installs it")
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")


@contextmanager
def running_redis(folder: Path, *options: str, port: int = 0) -> Iterator[RedisProcess]:
    """Run one server until the end of the block."""
    need_redis()
    port = port or _free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning", "--logfile", f"redis-{port}.log"]
    server = RedisProcess(subprocess.Popen([*command, *quiet, *options]), port)
    try:
        _until(lambda client: client.ping(), port)
        yield server
    finally:
        server.stop()


@contextmanager
def running_cluster(folder: Path, num_nodes: int = 3) -> Iterator[list[RedisProcess]]:
    """Run a Cluster of masters that share the slots."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(num_nodes):
            port = _free_port()
            options = ["--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf"]
            bus = ["--cluster-port", str(_free_port()), "--cluster-node-timeout", "2000"]
            nodes.append(stack.enter_context(running_redis(folder, *options, *bus, port=port)))
        for index, node in enumerate(nodes):
            with Redis(port=node.port, decode_responses=True) as client:
                first, last = (_SLOTS * step // num_nodes for step in (index, index + 1))
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            with Redis(port=nodes[0].port) as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, _bus_port(node))
        for node in nodes:
            _until(lambda client: _whole(client, num_nodes), node.port)
        yield nodes


def _bus_port(node: RedisProcess) -> int:
    with Redis(port=node.port, decode_responses=True) as client:
        return int(client.config_get("cluster-port")["cluster-port"])


def _whole(client: Redis, num_nodes: int) -> bool:
    info: object = client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]  # redis-py has no types here
    lines = str(info).splitlines()
    return {"cluster_state:ok", f"cluster_known_nodes:{num_nodes}", f"cluster_size:{num_nodes}"} <= set(lines)


def _until(answers: object, port: int) -> None:
    assert callable(answers)
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with Redis(port=port, decode_responses=True) as client:
                if answers(client):
                    return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < give_up_at, f"redis-server on port {port} did not get ready"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
