"""An item is put into a running service of two replicas, reaches its people, is clicked, counted and taken away."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from content_world import described
from living_service import eventually
from serving_process import running

from retrank.serving.ingress import free_port

pytestmark = pytest.mark.ray
ASKED_OFTEN = 20
"""Answers in a row that both replicas have a part in; a wrong one of theirs would hardly be missed."""


@pytest.fixture(scope="module")
def admin_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def client(content_bundle: Path, admin_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with running(content_bundle, f"serving.admin.port={admin_port}", replicas=2, log=log) as service:
        limits = httpx.Limits(max_keepalive_connections=0)  # each request may meet the other replica
        with httpx.Client(base_url=service.url, timeout=30.0, limits=limits) as connected:
            yield connected


def _ids(client: httpx.Client, user: str, **request: Any) -> list[str]:
    answer = client.post("/v1/recommend", json={"user_id": user, "k": 8, **request})
    assert answer.status_code == 200
    return [item["item_id"] for item in answer.json()["items"]]


def _always(client: httpx.Client, user: str, *, shown: bool) -> bool:
    return all(("lamp" in _ids(client, user)) is shown for _ in range(ASKED_OFTEN))


def _status(admin_port: int) -> str:
    words = [sys.executable, "-m", "retrank.cli", "ctl", "status", "--url", f"http://127.0.0.1:{admin_port}"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_new_item_reaches_its_people_on_every_replica_and_leaves_them_again(
    client: httpx.Client, admin_port: int
) -> None:
    assert _always(client, "u2", shown=False)
    put = client.put("/v1/items/lamp", json={"attributes": described(102)})
    assert (put.status_code, put.json()["unknown"], put.json()["offered"]) == (200, ["lamp"], ["lamp"])
    eventually(lambda: _always(client, "u2", shown=True))
    assert _always(client, "u1", shown=False)

    similar = client.post("/v1/similar", json={"item_id": "lamp", "k": 3}).json()
    assert (similar["degraded"]["reasons"], len(similar["items"])) == ([], 3)
    found = client.get("/v1/catalogue/items", params={"query": "number 102"}).json()["items"]
    assert found == [{"item_id": "lamp", "attributes": described(102)}]

    eventually(lambda: 'recsys_new_items{state="offered"} 1.0' in client.get("/metrics").text)
    # each replica reports on its own clock: one of them may still tell of the moment before
    eventually(lambda: "items newer than the bundle: offered 1\n" in _status(admin_port), within_s=60.0)

    click = {"event_id": "c1", "type": "click", "item_id": "lamp", "user_id": "u6"}
    assert "lamp" in _ids(client, "u6")
    assert client.post("/v1/events", json={"events": [click]}).status_code == 202
    assert _always(client, "u6", shown=False)
    assert "lamp" in _ids(client, "u6", exclude_seen=False)

    assert client.delete("/v1/items/lamp").json()["offered"] == []
    eventually(lambda: _always(client, "u2", shown=False))
