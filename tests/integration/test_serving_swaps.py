"""Bundles swapped in a real service: `retrank serve` with two replicas, `retrank ctl`, users who keep asking."""

import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from serving_process import running
from swap_world import names_of

from retrank.serving.ingress import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Users(threading.Thread):
    """Somebody who asks again and again, and looks at who answered with what."""

    def __init__(self, url: str, letters: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._url, self._letters = url, letters
        self.leave = threading.Event()
        self.answers, self.wrong = 0, []  # type: ignore[var-annotated]

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30.0) as client:
            while not self.leave.is_set():
                answer = client.post("/v1/recommend", json={"user_id": "u1"})
                self.answers += 1
                body = answer.json() if answer.status_code == httpx.codes.OK else {}
                letters = {item["item_id"][0] for item in body.get("items", [])}
                if letters != {self._letters.get(body.get("bundle", {}).get("id", ""))}:
                    self.wrong.append(answer.text)


def test_no_request_fails_and_no_answer_is_mixed_while_bundles_are_swapped(three_bundles: Path, tmp_path: Path) -> None:
    names = names_of(three_bundles)
    port = free_port()

    def ctl(*words: str) -> str:
        command = [sys.executable, "-m", "retrank.cli", "ctl", *words, "--url", f"http://127.0.0.1:{port}"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    overrides = f"serving.admin.port={port}"
    with running(three_bundles / names[0], overrides, replicas=2, log=tmp_path / "log.txt") as service:
        users = [Users(service.url, dict(zip(names, "abc", strict=True))) for _ in range(4)]
        for user in users:
            user.start()
        for name in names:
            ctl("stage", name, "--wait", "60")
        for name in (names[1], names[2], names[0], names[1]):
            ctl("activate", name, "--wait", "60")
            assert httpx.get(f"{service.url}/version").json()["bundle"]["id"] == name
        ctl("rollback", "--wait", "60")
        assert "2 replicas" in ctl("canary", names[2], "50", "--wait", "60")
        status = ctl("status")
        for user in users:
            user.leave.set()
        for user in users:
            user.join()
    assert " converged" in status
    assert [wrong for user in users for wrong in user.wrong] == []
    assert min(user.answers for user in users) > 10
