"""What the service keeps of a person is exported, forgotten and erased through both clients, over real sockets."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from living_service import living_service
from rpc_world import served

from retrank.client import AsyncClient, Client, ClientSettings, Event
from retrank.serving.recommender import Recommender

SETTINGS = ClientSettings(deadline_s=30, attempt_s=30)
Act = Callable[..., Any]


@pytest.fixture(scope="module")
def url(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("people")) as service,
        served(service) as where,
    ):
        yield where.url


def _sync(url: str, name: str, *arguments: Any) -> Any:
    with Client(url, SETTINGS) as client:
        return getattr(client, name)(*arguments)


def _async(url: str, name: str, *arguments: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, SETTINGS) as client:
            return await getattr(client, name)(*arguments)

    return asyncio.run(run())


@pytest.mark.parametrize("act", [_sync, _async], ids=["sync", "async"])
@pytest.mark.parametrize("end", ["forget_user", "erase_user"])
def test_a_person_is_exported_and_then_gone(url: str, act: Act, end: str) -> None:
    who = f"somebody/{act.__name__} {end}"
    click = Event(event_id=who, type="click", item_id="i3", user_id=who)
    assert act(url, "export_user", who) == []
    assert act(url, "send_events", [click]).accepted == 1
    kept = act(url, "export_user", who)
    assert "i3" in str(kept)
    assert all(isinstance(entry, dict) for entry in kept)
    assert act(url, end, who)["entries"] >= 1
    assert act(url, "export_user", who) == []
