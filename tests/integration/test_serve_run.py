"""The committed configuration of Ray Serve, started by Ray's own command with HAProxy in front."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from deploy_files import ROOT, Tree

from retrank.serving.ingress import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
_READY_S = 180.0
_SCALED_S = 180.0
_CALLERS = 6
_START = 'eval "$(python -m retrank.serving.ingress)"; exec serve run "$1"'


def _configuration(bundle: Path, port: int) -> Tree:
    config: Tree = yaml.safe_load((ROOT / "serving" / "config.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"] |= {"bundle": str(bundle), "port": port}
    return config


@pytest.fixture(scope="module")
def url(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("serve_run"), free_port()
    (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(tiny_bundle, port)))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", _START, "start", str(folder / "config.yaml")],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(f"http://127.0.0.1:{port}/readyz", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3_000:]
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text()[-3_000:])


def test_the_service_answers_with_the_settings_of_the_file(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30.0) as client:
        answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 3})
        assert answer.status_code == 200
        assert len(json.loads(answer.content)["items"]) == 3
        assert client.get("/livez").status_code == 200


def test_load_brings_a_second_replica_and_loses_no_request(url: str) -> None:
    """Behind HAProxy no proxy of Ray counts requests; the replicas have to, or nothing would ever scale."""
    enough = threading.Event()

    def call() -> set[int]:
        seen = set()
        with httpx.Client(base_url=url, timeout=30.0) as client:
            while not enough.is_set():
                seen.add(client.post("/v1/recommend", json={"user_id": "u1", "k": 20}).status_code)
        return seen

    with ThreadPoolExecutor(_CALLERS) as callers, httpx.Client(base_url=url, timeout=30.0) as client:
        calls = [callers.submit(call) for _ in range(_CALLERS)]
        try:
            deadline = time.monotonic() + _SCALED_S
            while "recsys_replicas 2.0" not in client.get("/metrics").text:
                assert time.monotonic() < deadline, "one replica still answers alone"
                time.sleep(1.0)
        finally:
            enough.set()
        assert set().union(*(one.result() for one in calls)) <= {200, 429}
