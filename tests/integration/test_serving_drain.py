"""SIGTERM under load: whoever sent a request gets an answer; later ones are refused when they connect, never cut."""

import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving_process import READY_S, command

from retrank.serving.ingress import free_port

pytestmark = pytest.mark.ray
CLIENTS = 8
STOP_S = 60.0


class Callers:
    """Clients that ask again as soon as they are answered, until nobody listens; half keep their connection."""

    def __init__(self, url: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._url = url
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(keep,)) for keep in (True, False) * (CLIENTS // 2)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(STOP_S)
            assert not thread.is_alive()

    def _call(self, keep: bool) -> None:
        with httpx.Client(base_url=self._url, timeout=30.0) as kept:
            outcome = ""
            while not outcome.startswith("refused"):
                outcome = self._ask(kept) if keep else self._ask_once()
                with self._lock:
                    self.outcomes[outcome] += 1

    def _ask_once(self) -> str:
        with httpx.Client(base_url=self._url, timeout=30.0) as fresh:
            return self._ask(fresh)

    def _ask(self, client: httpx.Client) -> str:
        try:
            return str(client.post("/v1/recommend", json={"user_id": "u1", "k": 20}).status_code)
        except httpx.ConnectError:
            return "refused"
        except httpx.HTTPError as error:
            return f"cut: {error!r}"


def test_no_request_is_cut_when_the_service_is_told_to_stop(tiny_bundle: Path, tmp_path: Path) -> None:
    log, port = tmp_path / "log.txt", free_port()
    url = f"http://127.0.0.1:{port}"
    told = command(f"bundle={tiny_bundle}", f"serving.port={port}", "serving.guard.drain.window_s=1")
    with log.open("w") as output, subprocess.Popen(told, stdout=output, stderr=output) as process:
        try:
            _wait_for("ready on", log, process)
            callers = Callers(url)
            callers.start()
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            _wait_for("leaving", log, process)
            ready = httpx.get(f"{url}/readyz", timeout=30.0)
            callers.join()
            assert process.wait(STOP_S) == 0, log.read_text()
        finally:
            process.kill()
    assert (ready.status_code, ready.json()["code"]) == (503, "draining")
    assert "retry-after" in ready.headers
    assert set(callers.outcomes) <= {"200", "429", "refused"}, callers.outcomes
    assert callers.outcomes["200"] > CLIENTS
    assert callers.outcomes["refused"] == CLIENTS


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
