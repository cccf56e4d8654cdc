"""What the service keeps of a person is exported, forgotten and erased: both clients, and gRPC, over real sockets."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from living_service import living_service
from rpc_world import Served, served

from retrank.client import AsyncClient, Client, ClientSettings, Event
from retrank.serving.recommender import Recommender
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.rpc.v1 import recommender_pb2_grpc as stubs

SETTINGS = ClientSettings(deadline_s=30, attempt_s=30)
Act = Callable[..., Any]


@pytest.fixture(scope="module")
def where(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("people")) as service,
        served(service) as serving,
    ):
        yield serving


def _sync(where: Served, name: str, *arguments: Any) -> Any:
    with Client(where.url, SETTINGS) as client:
        return getattr(client, name)(*arguments)


def _async(where: Served, name: str, *arguments: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(where.url, SETTINGS) as client:
            return await getattr(client, name)(*arguments)

    return asyncio.run(run())


def _rpc(where: Served, name: str, user_id: str) -> Any:
    """What is kept of a user over gRPC, with the answers of the clients."""
    with grpc.insecure_channel(where.rpc) as channel:
        method = getattr(stubs.UsersStub(channel), name.removesuffix("_user").title())  # type: ignore[no-untyped-call]
        found = MessageToDict(method(pb.UserRequest(user_id=user_id), timeout=30))
    return found.get("entries", []) if name == "export_user" else found


@pytest.mark.parametrize("act", [_sync, _async, _rpc], ids=["sync", "async", "rpc"])
@pytest.mark.parametrize("end", ["forget_user", "erase_user"])
def test_a_person_is_exported_and_then_gone(where: Served, act: Act, end: str) -> None:
    who = f"somebody/{act.__name__} {end}"
    click = Event(event_id=who, type="click", item_id="i3", user_id=who)
    assert act(where, "export_user", who) == []
    assert _sync(where, "send_events", [click]).accepted == 1
    kept = act(where, "export_user", who)
    assert "i3" in str(kept)
    assert kept == _sync(where, "export_user", who)
    assert act(where, end, who)["entries"] >= 1
    assert act(where, "export_user", who) == []
