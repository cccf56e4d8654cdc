"""A real redis-server on a loopback port, to be killed, frozen and brought back."""

import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from retrank.serving.ingress import free_port

_READY_S = 30.0


class RedisServer:
    """One server without persistence; ended when the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)]
        self._process = subprocess.Popen([*command, "--save", "", "--appendonly", "no", "--logfile", "redis.log"])
        ends = time.monotonic() + _READY_S
        while time.monotonic() < ends:
            with suppress(RedisError, OSError), Redis(port=self._port) as client:
                client.ping()
                return
            time.sleep(0.02)
        raise SystemExit(f"redis-server on port {self._port} did not get ready")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_READY_S)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
