"""Both clients over real sockets; every promise holds for each."""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from scripted_service import SLATE, Said, serving

from retrank.client import (
    AsyncClient,
    BulkItem,
    CallFailed,
    CallRefused,
    Client,
    ClientClosed,
    ClientSettings,
    Event,
    RankRequest,
    RecommendRequest,
    Session,
    SimilarRequest,
)
from retrank.client.errors import ClientError
from retrank.contract.api import MAX_DEADLINE_MS
from retrank.contract.filters import Filter

Run = Callable[..., Any]
Action = tuple[str, tuple[Any, ...], dict[str, Any]]
ASK = RecommendRequest(user_id="u1", k=3)
NO_ADULT_ITEMS = Filter.model_validate({"eq": {"attribute": "adult", "value": False}})


def _sync(url: str, settings: ClientSettings | None, actions: list[Action]) -> list[Any]:
    outcomes = []
    with Client(url, settings, fallback_items=("f1", "f2")) as client:
        for name, arguments, options in actions:
            try:
                outcomes.append(getattr(client, name)(*arguments, **options))
            except ClientError as error:
                outcomes.append(error)
    return outcomes


def _async(url: str, settings: ClientSettings | None, actions: list[Action]) -> list[Any]:
    async def run() -> list[Any]:
        async with AsyncClient(url, settings, fallback_items=("f1", "f2")) as client:
            outcomes = []
            for name, arguments, options in actions:
                try:
                    outcomes.append(await getattr(client, name)(*arguments, **options))
                except ClientError as error:
                    outcomes.append(error)
            return outcomes

    return asyncio.run(run())


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


def test_a_slate_arrives_with_its_token(run: Run) -> None:
    with serving() as service:
        (slate,) = run(service.url, None, [("recommend", (ASK,), {})])
    assert [entry.item_id for entry in slate.items] == ["i1", "i2", "i3", "i4", "i5"]
    assert slate.recommendation_id == "signed"
    assert service.asked[0].body == {"user_id": "u1", "k": 3}


def test_the_service_is_told_the_deadline_and_the_key_in_headers(run: Run) -> None:
    settings = ClientSettings(api_key=SecretStr("secret-key"), attempt_s=9)
    with serving() as service:
        run(service.url, settings, [("recommend", (ASK,), {"deadline_s": 0.5})])
    headers = service.asked[0].headers
    assert 1 <= int(headers["x-deadline-ms"]) <= 500
    assert headers["authorization"] == "Bearer secret-key"
    assert "secret-key" not in repr(settings)


def test_answers_of_a_newer_service_are_understood(run: Run) -> None:
    newer = SLATE | {"new_field": 1, "degraded": {"is_degraded": True, "reasons": ["a_code_from_the_future"]}}
    with serving(Said(body=newer)) as service:
        (slate,) = run(service.url, None, [("recommend", (ASK,), {})])
    assert slate.degraded.reasons == ["a_code_from_the_future"]


def test_a_connection_that_is_cut_is_tried_again(run: Run) -> None:
    with serving(Said(cut=True), Said()) as service:
        (slate,) = run(service.url, None, [("recommend", (ASK,), {})])
    assert not slate.degraded.is_degraded
    assert len(service.asked) == 2


def test_the_last_good_answer_stands_in_while_the_service_is_away(run: Run) -> None:
    with serving(Said(), Said(503)) as service:
        first, second = run(service.url, None, [("recommend", (ASK,), {}), ("recommend", (ASK,), {})])
    assert not first.is_local
    assert [entry.item_id for entry in second.items] == ["i1", "i2", "i3"]
    assert second.degraded.reasons == ["local_fallback"]
    assert second.recommendation_id is None


def test_somebody_new_gets_the_popular_list_then_the_static_one(run: Run) -> None:
    stranger = RecommendRequest(user_id="stranger", k=2)
    with serving(Said(503)) as service:
        (static,) = run(service.url, None, [("recommend", (stranger,), {})])
    assert [entry.item_id for entry in static.items] == ["f1", "f2"]
    with serving(Said(), Said(503)) as service:
        _, popular = run(service.url, None, [("popular", (5,), {}), ("recommend", (stranger,), {})])
    assert [entry.item_id for entry in popular.items] == ["i1", "i2"]


@pytest.mark.parametrize("name", ["forget_user", "erase_user"])
def test_who_is_forgotten_leaves_the_client_too(run: Run, name: str) -> None:
    other = ASK.model_copy(update={"user_id": "u2"})
    asked: list[Action] = [
        ("recommend", (ASK,), {}),
        ("recommend", (other,), {}),
        (name, ("u1",), {}),
        ("recommend", (ASK,), {}),
        ("recommend", (other,), {}),
    ]
    with serving(Said(), Said(), Said(body={"entries": 1}), Said(503)) as service:
        *_, forgotten, kept = run(service.url, ClientSettings(max_attempts=1), asked)
    assert [entry.item_id for entry in forgotten.items] == ["f1", "f2"]
    assert [entry.item_id for entry in kept.items] == ["i1", "i2", "i3"]


def test_who_could_not_be_forgotten_is_still_remembered(run: Run) -> None:
    asked: list[Action] = [("recommend", (ASK,), {}), ("forget_user", ("u1",), {}), ("recommend", (ASK,), {})]
    with serving(Said(), Said(503)) as service:
        _, failed, kept = run(service.url, ClientSettings(max_attempts=1), asked)
    assert isinstance(failed, CallFailed)
    assert [entry.item_id for entry in kept.items] == ["i1", "i2", "i3"]


def test_a_service_that_hangs_costs_no_more_than_the_deadline_allows(run: Run) -> None:
    with serving(Said(hang_s=1.0)) as service:
        (slate,) = run(service.url, ClientSettings(max_attempts=1), [("recommend", (ASK,), {"deadline_s": 0.05})])
    assert slate.is_local


def test_an_answer_that_drips_costs_no_more_than_the_deadline_either(run: Run) -> None:
    settings = ClientSettings(max_attempts=1)
    with serving(Said(drip_bytes=20)) as service:  # 0.5 s in all, and never 0.1 s without a byte
        (slate,) = run(service.url, settings, [("recommend", (ASK,), {"deadline_s": 0.1})])
    assert slate.is_local


def test_a_refusal_is_an_error_even_where_a_fallback_is_known(run: Run) -> None:
    problem = {"title": "Unprocessable", "detail": "/k: too large", "code": "invalid_field", "instance": "r"}
    with serving(Said(), Said(422, problem)) as service:
        _, refused = run(service.url, None, [("recommend", (ASK,), {}), ("recommend", (ASK,), {})])
    assert isinstance(refused, CallRefused)
    assert refused.refusal.code == "invalid_field"


def test_one_visitors_slate_is_never_shown_to_another(run: Run) -> None:
    visitor = RecommendRequest(session=Session(recent=["i9"]), k=3)
    with serving(Said(), Said(503)) as service:
        _, other = run(service.url, None, [("recommend", (visitor,), {}), ("recommend", (RecommendRequest(),), {})])
    assert [entry.item_id for entry in other.items] == ["f1", "f2"]


def test_what_a_request_excludes_no_fallback_shows(run: Run) -> None:
    asked: list[Action] = [
        ("recommend", (ASK.model_copy(update={"exclude_items": ["i1"]}),), {}),
        ("similar", (SimilarRequest(item_id="i2", exclude_items=["i1"], k=2),), {}),
        ("recommend", (RecommendRequest(exclude_items=["f1", "i1", "i2", "i3", "i4", "i5"]),), {}),
    ]
    with serving(Said(), Said(), Said(503)) as service:
        _, _, own, similar, static = run(service.url, None, [("recommend", (ASK,), {}), ("popular", (5,), {}), *asked])
    assert [(entry.rank, entry.item_id) for entry in own.items] == [(1, "i2"), (2, "i3"), (3, "i4")]
    assert [entry.item_id for entry in similar.items] == ["i3", "i4"]
    assert [entry.item_id for entry in static.items] == ["f2"]


def test_under_a_filter_the_call_fails_rather_than_show_what_it_forbids(run: Run) -> None:
    adults_only = RecommendRequest(user_id="u1", filter=NO_ADULT_ITEMS)
    with serving(Said(), Said(503)) as service:
        _, failed = run(service.url, None, [("recommend", (ASK,), {}), ("recommend", (adults_only,), {})])
    assert isinstance(failed, CallFailed)


def test_a_filtered_slate_stands_in_for_no_other(run: Run) -> None:
    filtered = RecommendRequest(user_id="u1", filter=NO_ADULT_ITEMS)
    with serving(Said(), Said(503)) as service:
        _, plain = run(service.url, None, [("recommend", (filtered,), {}), ("recommend", (ASK,), {})])
    assert [entry.item_id for entry in plain.items] == ["f1", "f2"]


def test_the_service_is_asked_for_no_longer_than_it_allows(run: Run) -> None:
    with serving() as service:
        run(service.url, ClientSettings(attempt_s=600), [("recommend", (ASK,), {"deadline_s": 600})])
    assert service.asked[0].headers["x-deadline-ms"] == str(MAX_DEADLINE_MS)


def test_ids_of_dots_do_not_climb_the_path(run: Run) -> None:
    with serving(Said(body={"ok": True})) as service:
        run(
            service.url, None, [("delete_item", ("..",), {}), ("erase_user", (".",), {}), ("delete_item", ("a..",), {})]
        )
    assert [asked.path for asked in service.asked] == ["/v1/items/%2E%2E", "/v1/users/%2E:erase", "/v1/items/a.."]


def test_an_answer_that_cannot_be_read_is_no_answer(run: Run) -> None:
    with serving(Said(), Said(raw=b"<html>"), Said(headers=(("Content-Encoding", "gzip"),), raw=b"no")) as service:
        _, page, garbled = run(service.url, None, [("recommend", (ASK,), {})] * 3)
    assert page.is_local
    assert garbled.is_local
    with serving(Said(raw=b"<html>")) as service:
        (failed,) = run(service.url, None, [("post", ("/v1/x", {}), {})])
    assert isinstance(failed, CallFailed)
    assert failed.status == 200


def test_why_no_answer_came_is_said_and_kept(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
        (refused,) = run(nowhere, ClientSettings(max_attempts=1), [("erase_user", ("u1",), {})])
    assert isinstance(refused, CallFailed)
    assert "1 attempt(s), the last one ended with no answer (ConnectError: " in str(refused)
    assert isinstance(refused.__cause__, httpx.ConnectError)
    with serving(Said(hang_s=5.0)) as service:
        (late,) = run(service.url, ClientSettings(max_attempts=1, attempt_s=0.05), [("erase_user", ("u1",), {})])
    assert isinstance(late, CallFailed)
    assert "Timeout" in str(late)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000", "'127.0.0.1:8000', expected http:// or https:// and a host, such as http://127.0.0.1:8000"),
        ("localhost:8000", "such as http://localhost:8000"),
        ("shop.example/api", "such as http://shop.example/api"),
        ("ftp://shop.example", "expected http:// or https://"),
        ("http://", "expected http:// or https:// and a host"),
        ("http://shop.example:many", "the base URL is not one"),
        ("", "expected http:// or https:// and a host"),
    ],
)
def test_a_base_url_that_nothing_can_be_sent_to_is_refused_at_once(
    client: type[Client] | type[AsyncClient], url: str, said: str
) -> None:
    with pytest.raises(ClientError, match=re.escape(said)):
        client(url)


def test_a_base_url_is_shown_without_the_password_in_it() -> None:
    with pytest.raises(ClientError) as refused:
        Client("shop:secret@shop.example:8000")
    assert "secret" not in str(refused.value)
    assert "http://...@shop.example:8000" in str(refused.value)


def test_events_have_no_fallback(run: Run) -> None:
    event = Event(event_id="e1", type="click", item_id="i1", user_id="u1")
    with serving(Said(503)) as service:
        (failed,) = run(service.url, None, [("send_events", ([event],), {})])
    assert isinstance(failed, CallFailed)
    assert failed.status == 503
    assert service.asked[0].body == {
        "events": [{"event_id": "e1", "type": "click", "item_id": "i1", "user_id": "u1", "context": {}}]
    }


def test_ids_with_slashes_stay_one_part_of_the_path(run: Run) -> None:
    with serving(Said(body={"ok": True})) as service:
        run(service.url, None, [("set_availability", ("a/b c",), {"available": False}), ("delete_item", ("ü",), {})])
    assert [asked.path for asked in service.asked] == ["/v1/items/a%2Fb%20c/availability", "/v1/items/%C3%BC"]
    assert service.asked[0].body == {"available": False}


def test_a_closed_client_says_so_and_what_to_do() -> None:
    with serving() as service:
        with Client(service.url) as client:
            client.recommend(ASK)
        with pytest.raises(ClientClosed, match="with") as raised:
            client.recommend(ASK)  # although an answer is remembered: this is a mistake, not bad weather
        assert isinstance(raised.value, ClientError)

        async def late() -> None:
            async with AsyncClient(service.url) as client:
                await client.recommend(ASK)
            await client.recommend(ASK)

        with pytest.raises(ClientClosed, match="with"):
            asyncio.run(late())
    assert len(service.asked) == 2


def test_connections_are_kept_alive() -> None:
    with serving() as service, Client(service.url) as client:
        for _ in range(3):
            client.recommend(ASK)
        pool = client._http._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1
    assert isinstance(client._http, httpx.Client)


BATCH = {"request_id": "b", "answers": [{"status": 200, "slate": SLATE}, {"status": 422, "problem": {"code": "x"}}]}


def test_what_a_request_says_is_sent_even_where_it_is_the_default(run: Run) -> None:
    """A placement may have another default, so ten asked for is not the same as nothing said."""
    with serving() as service:
        run(service.url, None, [("recommend", (RecommendRequest(k=10, filter=None),), {})])
    assert service.asked[0].body == {"k": 10, "filter": None}


def test_candidates_come_back_in_order_and_stay_in_theirs_when_nothing_comes(run: Run) -> None:
    ranked = SLATE | {"items": [{"item_id": "b", "rank": 1, "score": 2.0}, {"item_id": "a", "rank": 2, "score": None}]}
    ask = RankRequest(user_id="u1", items=["a", "b", "a"])
    with serving(Said(body=ranked), Said(503)) as service:
        first, second = run(service.url, None, [("rank", (ask,), {}), ("rank", (ask,), {})])
    assert [(entry.item_id, entry.score) for entry in first.items] == [("b", 2.0), ("a", None)]
    assert [(entry.item_id, entry.rank, entry.score) for entry in second.items] == [("a", 1, None), ("b", 2, None)]
    assert second.degraded.reasons == ["local_fallback"]
    assert service.asked[0].body == {"user_id": "u1", "items": ["a", "b", "a"]}


def test_a_batch_is_remembered_and_stood_in_for_one_by_one(run: Run) -> None:
    filtered = RecommendRequest(user_id="u2", filter=NO_ADULT_ITEMS)
    ask = ([ASK, filtered],)
    with serving(Said(body=BATCH), Said(503)) as service:
        first, second, alone = run(
            service.url, None, [("recommend_batch", ask, {}), ("recommend_batch", ask, {}), ("recommend", (ASK,), {})]
        )
    assert [entry.status for entry in first.answers] == [200, 422]
    assert [entry.status for entry in second.answers] == [200, 503]
    assert second.answers[0].slate is not None
    assert [entry.item_id for entry in second.answers[0].slate.items] == ["i1", "i2", "i3"]
    assert second.answers[1].problem.code == "no_answer"
    assert [entry.item_id for entry in alone.items] == ["i1", "i2", "i3"]
    assert service.asked[0].body["requests"][1]["filter"] == {"eq": {"attribute": "adult", "value": False}}


def test_a_batch_of_which_nothing_is_known_fails(run: Run) -> None:
    with serving(Said(503)) as service:
        (failed,) = run(service.url, None, [("recommend_batch", ([RecommendRequest(filter=NO_ADULT_ITEMS)],), {})])
    assert isinstance(failed, CallFailed)


def test_what_trends_in_a_window_stands_in_for_itself_only(run: Run) -> None:
    asks: list[Action] = [
        ("popular", (5, "cart", "24h"), {}),
        ("popular", (5, "cart", "24h"), {}),
        ("popular", (5,), {}),
    ]
    with serving(Said(), Said(503)) as service:
        _, again, plain = run(service.url, None, asks)
    assert service.asked[0].path == "/v1/popular?k=5&placement=cart&window=24h"
    assert again.items[0].item_id == "i1"
    assert plain.items[0].item_id == "f1"


@pytest.mark.parametrize(
    ("name", "argument", "method", "path", "answer", "result"),
    [
        ("forget_user", "a/b", "DELETE", "/v1/users/a%2Fb", Said(body={"entries": 3}), {"entries": 3}),
        ("erase_user", "u1", "POST", "/v1/users/u1:erase", Said(body={"entries": 3}), {"entries": 3}),
        ("export_user", "u1", "POST", "/v1/users/u1:export", Said(raw=b'{"a": 1}\n{"b": 2}\n'), [{"a": 1}, {"b": 2}]),
        ("export_user", "u1", "POST", "/v1/users/u1:export", Said(raw=b""), []),
        (
            "change_items",
            [BulkItem(item_id="i1", action="delete")],
            "POST",
            "/v1/items:bulk",
            Said(body={"version": 1}),
            {"version": 1},
        ),
    ],
)
def test_users_and_items_are_changed_by_calls_that_may_be_repeated(
    run: Run, name: str, argument: Any, method: str, path: str, answer: Said, result: Any
) -> None:
    with serving(Said(503), answer) as service:
        (found,) = run(service.url, None, [(name, (argument,), {})])
    assert found == result
    assert [(one.method, one.path) for one in service.asked] == [(method, path)] * 2


@pytest.mark.parametrize(
    "key", ["planted-4711\nshown only this once", "planted-4711-ä", "", " planted-4711", "p" * 600]
)
def test_a_key_that_no_header_can_carry_is_refused_without_quoting_it(key: str) -> None:
    for given in (key, SecretStr(key)):
        with pytest.raises(ValueError, match="visible ASCII") as refused:
            ClientSettings.model_validate({"api_key": given})
        assert "planted" not in str(refused.value)
        assert "ppp" not in str(refused.value)


@pytest.mark.parametrize(
    "said",
    [
        Said(401, {"title": "planted-4711", "detail": "no key planted-4711", "code": "unauthorized"}),
        Said(403, raw=b"proxy: bad Authorization: Bearer planted-4711"),
    ],
    ids=["problem", "page"],
)
def test_a_key_that_a_refusal_echoes_is_in_no_error(run: Run, said: Said) -> None:
    with serving(said) as service:
        (refused,) = run(service.url, ClientSettings(api_key=SecretStr("planted-4711")), [("recommend", (ASK,), {})])
    assert isinstance(refused, CallRefused)
    assert service.asked[0].headers["authorization"] == "Bearer planted-4711"
    assert "planted" not in f"{refused} {refused.refusal!r}"
    assert "..." in str(refused)
