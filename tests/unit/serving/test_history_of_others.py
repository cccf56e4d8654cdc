"""What somebody did just now is told to whoever may export them, not to every key that may read."""

from pathlib import Path

import pytest
from living_service import living_service
from starlette.types import ASGIApp, Receive, Scope, Send
from web_client import Client

from retrank.serving.guard.caller import Caller, Permission, set_caller
from retrank.serving.recommender import Recommender
from retrank.serving.web.routes import create_app


class CalledBy:
    """ASGI middleware: the guard, as far as it says who is calling."""

    def __init__(self, app: ASGIApp, permissions: frozenset[Permission]) -> None:
        self._app, self._caller = app, Caller("default", "k1", permissions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_caller(scope, self._caller)
        await self._app(scope, receive, send)


@pytest.mark.parametrize(
    ("permissions", "num_live"), [({"read"}, 0), ({"read", "ingest"}, 0), ({"read", "ingest", "admin"}, 1)]
)
def test_live_events_are_shown_to_who_may_export(
    tiny_bundle: Path, tmp_path: Path, permissions: set[Permission], num_live: int
) -> None:
    click = {"event_id": "e1", "type": "click", "item_id": "i3", "user_id": "u9"}
    with living_service(Recommender.open(tiny_bundle), tmp_path) as service:
        app = create_app(service)
        app.add_middleware(CalledBy, permissions=frozenset(permissions))
        client = Client(app)
        assert client.post("/v1/events", json={"events": [click]}).status_code == 202
        shown = client.get("/v1/catalogue/history?user_id=u9&limit=5").json()
    assert shown["num_live"] == num_live
    assert (shown["items"][0]["item_id"] == "i3") == bool(num_live)
    assert shown["num_events"] > num_live
