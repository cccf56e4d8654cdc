"""The real routes with everything around them, in this process."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from retrank.contract.api import ExperimentInfo
from retrank.contract.errors import ConfigError
from retrank.serving.guard.settings import AuthSettings, GuardSettings
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service
from retrank.serving.settings import ServiceSettings, Settings, refuse_to_open
from retrank.serving.swap_settings import AdminSettings
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.web.protection import open_protection
from retrank.serving.web.routes import create_app

ALONE: Mapping[str, str] = {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_alone_needs_no_keys(host: str) -> None:
    refuse_to_open(Settings(bundle=Path("b"), host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "shop.example"])
def test_other_machines_need_keys_or_a_word_that_they_do_not(host: str) -> None:
    with pytest.raises(ConfigError, match=r"allow_open=true"):
        refuse_to_open(Settings(bundle=Path("b"), host=host))
    for auth in (AuthSettings(allow_open=True), AuthSettings(key_file=Path("keys.json"))):
        refuse_to_open(Settings(bundle=Path("b"), host=host, guard=GuardSettings(auth=auth)))


def test_the_admin_port_is_opened_to_the_network_on_the_same_terms() -> None:
    opened = AdminSettings(host="0.0.0.0")
    with pytest.raises(ConfigError, match=r"serving\.admin\.host=0\.0\.0\.0 .*allow_open=true"):
        refuse_to_open(Settings(bundle=Path("b"), admin=opened))
    refuse_to_open(Settings(bundle=Path("b"), admin=opened.model_copy(update={"enabled": False})))
    guard = GuardSettings(auth=AuthSettings(key_file=Path("keys.json")))
    refuse_to_open(Settings(bundle=Path("b"), admin=opened, guard=guard))


def test_an_answer_shows_up_in_the_metrics_of_the_real_routes(tiny_bundle: Path) -> None:
    recommender = Recommender.open(tiny_bundle)
    protection = open_protection(GuardSettings(), TelemetrySettings(), ALONE)
    recommender.tally.telemetry = protection.telemetry
    protection.telemetry.bundle(recommender.bundle.id, recommender.bundle.created_at)
    app = create_app(recommender, protection=protection)

    async def scene() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            assert (await client.post("/v1/recommend", json={"user_id": "stranger", "k": 3})).status_code == 200
            assert (await client.get("/v1/popular")).status_code == 200
            assert (await client.post("/v1/similar", json={"item_id": "i3"})).status_code == 200
            assert (await client.post("/v1/recommend", json={"k": 0})).status_code == 422
            await client.delete("/v1/items/i%2F3")
            return (await client.get("/metrics")).text

    shown = asyncio.run(scene())
    for expected in (
        'recsys_requests_total{placement="none",route="/v1/recommend",status="200",variant="none"} 1.0',
        'recsys_requests_total{placement="none",route="/v1/recommend",status="422",variant="none"} 1.0',
        'recsys_requests_total{placement="none",route="/v1/items/{item_id}",',
        'recsys_degraded_total{reason="unknown_user",variant="none"} 1.0',
        'recsys_stage_seconds_count{stage="retrieve"} 3.0',
        'recsys_candidates_total{source="popular"}',
        f'recsys_bundle_info{{id="{recommender.bundle.id}"}} 1.0',
        "recsys_inflight 0.0",
        "recsys_queue_age_seconds_count 5.0",
    ):
        assert expected in shown


def test_latency_and_faults_of_a_canary_are_told_apart_from_those_of_the_others(tiny_bundle: Path) -> None:
    """The watch and the person who promotes the canary both judge it by these series."""
    recommender = Recommender.open(tiny_bundle)

    def pick(person: str | None) -> Picked:
        is_canary = person is not None and person.endswith("canary")
        return Picked(recommender, ExperimentInfo(id="bundle", variant="canary" if is_canary else "control"))

    protection = open_protection(GuardSettings(), TelemetrySettings(), ALONE)
    service = Service(pick, Backing.none(), ServiceSettings())
    app = create_app(service, protection=protection)

    async def scene() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            for user in ("a stranger", "the canary", "another canary"):
                assert (await client.post("/v1/recommend", json={"user_id": user, "k": 3})).status_code == 200
            return (await client.get("/metrics")).text

    shown = asyncio.run(scene())
    for variant, count in (("bundle/control", "1.0"), ("bundle/canary", "2.0")):
        for name, labels in (
            ("recsys_request_seconds_count", f'route="/v1/recommend",variant="{variant}"'),
            ("recsys_degraded_total", f'reason="unknown_user",variant="{variant}"'),
        ):
            assert f"{name}{{{labels}}} {count}" in shown
