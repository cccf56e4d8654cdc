"""SIGTERM under load: whoever sent a request gets an answer; later ones are refused when they connect, never cut.

The same run shows that neither an API key nor a user id of its requests is in any log.
"""

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving_process import READY_S, command

from retrank.cli import main
from retrank.serving.ingress import free_port

pytestmark = pytest.mark.ray
CLIENTS = 8
STOP_S = 60.0
PERSON = "planted-person-4711"
RAY_LOGS = Path("/tmp/ray")


class Callers:
    """Clients that ask again as soon as they are answered, until nobody listens; half keep their connection."""

    def __init__(self, url: str, token: str) -> None:
        self._headers = {"authorization": f"Bearer {token}"}
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
        with httpx.Client(base_url=self._url, timeout=30.0, headers=self._headers) as kept:
            outcome = ""
            while not outcome.startswith("refused"):
                outcome = self._ask(kept) if keep else self._ask_once()
                with self._lock:
                    self.outcomes[outcome] += 1

    def _ask_once(self) -> str:
        with httpx.Client(base_url=self._url, timeout=30.0, headers=self._headers) as fresh:
            return self._ask(fresh)

    def _ask(self, client: httpx.Client) -> str:
        try:
            return str(client.post("/v1/recommend", json={"user_id": PERSON, "k": 20}).status_code)
        except httpx.ConnectError:
            return "refused"
        except httpx.HTTPError as error:
            return f"cut: {error!r}"


def test_no_request_is_cut_when_the_service_is_told_to_stop(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, port = tmp_path / "log.txt", free_port()
    url = f"http://127.0.0.1:{port}"
    keys, token = tmp_path / "keys.json", _key(tmp_path / "keys.json", capsys)
    told = command(
        f"bundle={tiny_bundle}",
        f"serving.port={port}",
        "serving.guard.drain.window_s=1",
        f"serving.guard.auth.key_file={keys}",
        "serving.telemetry.log_format=json",
    )
    started = time.time()
    with log.open("w") as output, subprocess.Popen(told, stdout=output, stderr=output) as process:
        try:
            early = _answers_before("ready on", log, process, url)
            callers = Callers(url, token)
            callers.start()
            time.sleep(1.0)
            _break_something(url, token)
            process.send_signal(signal.SIGTERM)
            _wait_for("leaving", log, process)
            ready = httpx.get(f"{url}/readyz", timeout=30.0)
            callers.join()
            assert process.wait(STOP_S) == 0, log.read_text()
        finally:
            _end(process)
    assert early <= {"200", "503", "refused"}, "never 404, which would say that this is no address of a service"
    assert all(json.loads(line)["message"] for line in log.read_text().splitlines())
    [place] = [line for line in log.read_text().splitlines() if "logs of its processes" in line]
    assert list(Path(json.loads(place)["message"].partition(": ")[2]).glob("serve/replica_*.log"))
    assert (ready.status_code, ready.json()["code"]) == (503, "draining")
    assert "retry-after" in ready.headers
    assert set(callers.outcomes) <= {"200", "429", "refused"}, callers.outcomes
    assert callers.outcomes["200"] > CLIENTS
    assert callers.outcomes["refused"] == CLIENTS
    written = {path: path.read_text(errors="replace") for path in [log, *_logs_since(started)]}
    assert any("POST /admin/v1/nothing ended with 404" in text for text in written.values())
    secret = token.split("_", 2)[2]
    assert [path for path, text in written.items() if secret in text or PERSON in text] == []


def _answers_before(text: str, log: Path, process: subprocess.Popen[bytes], url: str) -> set[str]:
    """Ask again and again until a service that starts says something; return what it answered meanwhile."""
    deadline, answers = time.monotonic() + READY_S, set[str]()
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            answers.add(str(httpx.get(f"{url}/readyz", timeout=30.0).status_code))
        except httpx.ConnectError:
            answers.add("refused")
        time.sleep(0.01)
    return answers


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running when the test failed half way; Ray's processes only go when the service ends by itself."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        finally:
            process.kill()


def _key(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["keys", "create", str(path), "--scopes", "read,admin"]) == 0
    return capsys.readouterr().out.splitlines()[0]


def _break_something(url: str, token: str) -> None:
    """Requests whose refusals quote what they were sent, and an administrative one, which is written down."""
    headers = {"authorization": f"Bearer {token}"}
    httpx.post(f"{url}/v1/recommend", json={"user_id": PERSON, "k": 0}, headers=headers)
    httpx.post(f"{url}/v1/recommend", content=f'{{"user_id": "{PERSON}"', headers=headers)
    httpx.post(f"{url}/v1/recommend", json={}, headers={"authorization": f"Bearer {token}x"})
    assert httpx.post(f"{url}/admin/v1/nothing", headers=headers).status_code == httpx.codes.NOT_FOUND


def _logs_since(moment: float) -> list[Path]:
    """Return the log files that Ray's processes wrote to; its newest sessions are ours and those of other tests."""
    logs = [path for path in RAY_LOGS.glob("session_*/logs/**/*") if path.is_file()]
    return [path for path in logs if path.stat().st_mtime >= moment]


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
