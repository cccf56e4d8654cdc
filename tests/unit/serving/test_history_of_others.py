"""Whom a bundle knows and what each of them did is told to whoever may export them, not to every key that may read."""

import random
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from living_service import living_service
from web_client import Client

from retrank.serving.guard.caller import Permission
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate
from retrank.serving.guard.keyring import Keyring
from retrank.serving.guard.keys import KeyFile, new_key, write_key_file
from retrank.serving.guard.settings import GuardSettings
from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web.protection import Protection
from retrank.serving.web.routes import create_app

HISTORY, USERS, ITEMS = "/v1/catalogue/history?user_id=u9&limit=5", "/v1/catalogue/users", "/v1/catalogue/items"


def _gate(folder: Path, permissions: frozenset[Permission]) -> tuple[Gate, dict[str, str]]:
    key = new_key("shop", permissions, pepper=b"", random=secrets.token_bytes, now=datetime(2026, 1, 1, tzinfo=UTC))
    write_key_file(folder / "keys.json", KeyFile(keys=(key.record,)))
    gate = Gate(
        GuardSettings(),
        keyring=Keyring(folder / "keys.json", pepper=b"", clock=lambda: 0.0),
        drain=Drain(folder),
        clock=lambda: 0.0,
        rng=random.Random(0),
        telemetry=Telemetry(),
    )
    return gate, {"authorization": f"Bearer {key.token}"}


@pytest.mark.parametrize("permissions", [{"read"}, {"read", "ingest"}])
@pytest.mark.parametrize("path", [HISTORY, USERS, HISTORY.replace("history", "%68istory")])
def test_people_are_not_shown_to_who_may_only_read(
    tiny_bundle: Path, tmp_path: Path, permissions: set[Permission], path: str
) -> None:
    gate, headers = _gate(tmp_path, frozenset(permissions))
    client = Client(create_app(Recommender.open(tiny_bundle), protection=Protection(gate=gate)))
    for method in ("GET", "HEAD"):
        refused = client.request(method, path, headers=headers)
        assert refused.status_code == 403
        assert 'scope="admin"' in refused.headers["www-authenticate"]
    assert client.get(ITEMS, headers=headers).status_code == 200


def test_whoever_may_export_sees_live_events_before_sealed_ones(tiny_bundle: Path, tmp_path: Path) -> None:
    click = {"event_id": "e1", "type": "click", "item_id": "i3", "user_id": "u9"}
    gate, headers = _gate(tmp_path, frozenset({"read", "ingest", "admin"}))
    with living_service(Recommender.open(tiny_bundle), tmp_path) as service:
        client = Client(create_app(service, protection=Protection(gate=gate)))
        assert client.post("/v1/events", json={"events": [click]}, headers=headers).status_code == 202
        shown = client.get(HISTORY, headers=headers).json()
        assert client.get(USERS, headers=headers).json()["users"]
    assert (shown["num_live"], shown["items"][0]["item_id"]) == (1, "i3")
    assert shown["num_events"] > 1
