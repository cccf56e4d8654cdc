"""Operators act through the admin routes and `retrank ctl`; replicas in other processes follow."""

import asyncio
import http.server
import json
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from living_service import eventually
from pydantic import SecretStr
from swap_world import names_of

from retrank.serving.admin import admin_port, open_desk
from retrank.serving.backing import open_state
from retrank.serving.bundles.desired import Author
from retrank.serving.bundles.opening import begin, open_operator, open_service_replica, try_begin
from retrank.serving.bundles.replica import Replica
from retrank.serving.ctl import CtlError, main
from retrank.serving.guard.caller import PERMISSIONS
from retrank.serving.guard.drain import FOLDER_VARIABLE, Drain
from retrank.serving.guard.keys import KeyFile, new_key, write_key_file
from retrank.serving.guard.settings import AuthSettings, GuardSettings
from retrank.serving.ingress import free_port
from retrank.serving.launch import admin_beside
from retrank.serving.settings import Settings, parse_settings
from retrank.serving.stores.protocol import ItemChange
from retrank.serving.stores.settings import StateSettings, url_of
from retrank.serving.web.admin import create_admin_app


@pytest.fixture
def settings(three_bundles: Path, tmp_path: Path) -> Settings:
    return parse_settings(
        {
            "bundle": three_bundles / names_of(three_bundles)[0],
            "state": {"url": f"sqlite:{tmp_path / 'state.sqlite'}"},
            "bundles": {"poll_s": 0.02, "beat_s": 0.05},
            "admin": {"port": free_port(), "blast": {"wait_s": 0.3}},
        }
    )


@pytest.fixture
def names(three_bundles: Path) -> list[str]:
    return names_of(three_bundles)


@pytest.fixture
def replica(settings: Settings) -> Iterator[Replica]:
    begin(settings)
    opened = open_service_replica(settings, "one")
    opened.run()
    yield opened
    opened.close()


@pytest.fixture
def url(settings: Settings, replica: Replica) -> Iterator[str]:
    with admin_port(settings) as listening:
        yield listening


def _ctl(url: str, *words: str) -> str:
    lines: list[str] = []
    main([*words, "--url", url], say=lines.append)
    return "\n".join(lines)


def _post(app: FastAPI, path: str, **body: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
            return await client.post(path, json=body)

    return asyncio.run(ask())


def test_a_bundle_is_staged_activated_and_rolled_back_from_the_command_line(
    url: str, replica: Replica, names: list[str]
) -> None:
    a, b, _ = names
    with pytest.raises(CtlError, match=r"not ready on 1 of 1 replicas; stage it"):
        _ctl(url, "activate", b)
    assert f"staged {b}" in _ctl(url, "stage", b, "--wait", "20")
    assert f"active would be {b}" in _ctl(url, "activate", b, "--dry-run")
    assert replica.front.bundle.id == a
    assert f"active is {b}" in _ctl(url, "activate", b, "--wait", "20")
    assert replica.front.bundle.id == b
    shown = _ctl(url, "bundles")
    assert [line.split()[:2] for line in shown.splitlines()[1:] if line.split()[0] in (a, b)] == [
        [name, {a: "previous", b: "active"}[name]]
        for name in (line.split()[0] for line in shown.splitlines()[1:])
        if name in (a, b)
    ]
    _ctl(url, "rollback", "--reason", "a hunch", "--wait", "20")
    assert replica.front.bundle.id == a
    status = _ctl(url, "status")
    assert "converged" in status
    assert "a hunch" in status


def test_a_bundle_that_is_held_is_not_fetched_again_and_staging_it_ends(
    url: str, replica: Replica, names: list[str], three_bundles: Path, tmp_path: Path
) -> None:
    b = names[1]
    folder = shutil.copytree(three_bundles / b, tmp_path / "copy")
    assert f"note: bundle {b} lies in the library already; nothing is fetched from {folder}" in _ctl(
        url, "stage", str(folder), "--wait", "20"
    )
    again = _ctl(url, "stage", f"file:{three_bundles / b}", "--wait", "20")
    assert f"note: it was staged from {folder}; who lacks it fetches it from" in again
    assert "active would be" in _ctl(url, "unstage", b, "--dry-run")
    assert "active is" in _ctl(url, "unstage", b)
    eventually(lambda: b not in replica.status().verified)
    with pytest.raises(CtlError, match="is not staged"):
        _ctl(url, "unstage", b)
    with pytest.raises(CtlError, match="answers; activate another one"):
        _ctl(url, "unstage", names[0])


def test_a_rule_that_reaches_nobody_says_so_at_the_command_line(url: str) -> None:
    said = _ctl(url, "rules", "put", "x", "block", "--items", "i1", "--tenant", "shpo", "--dry-run")
    assert "note: no API key is of tenant 'shpo'" in said


def test_a_canary_grows_and_ends(url: str, replica: Replica, names: list[str]) -> None:
    _, b, _ = names
    _ctl(url, "stage", b, "--wait", "20")
    first = json.loads(_ctl(url, "canary", b, "5", "--wait", "20", "--json"))["desired"]["canary"]
    assert replica.holder.serving.percent == 5
    grown = json.loads(_ctl(url, "canary", b, "50", "--wait", "20", "--json"))["desired"]["canary"]
    assert grown["salt"] == first["salt"]
    _ctl(url, "canary", b, "0", "--wait", "20")
    assert replica.holder.serving.canary is None


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("bundles:activate", {"id": "0" * 16}, 409, "not ready on 1 of 1"),
        ("bundles:activate", {"id": "../../etc"}, 422, "/id"),
        ("bundles:activate", {"id": "0" * 16, "surprise": 1}, 422, "/surprise"),
        ("bundles:rollback", {}, 409, "no predecessor"),
        ("bundles:canary", {"id": "0" * 16, "percent": 101}, 422, "/percent"),
        ("bundles:canary", {"id": "0" * 16, "percent": 0}, 409, "no canary"),
        ("bundles:stage", {"source": "relative/folder"}, 422, "neither an absolute folder"),
        ("bundles:stage", {"source": "/nowhere"}, 422, "no such directory"),
        (":drain", {}, 501, "SIGTERM"),
    ],
)
def test_what_cannot_be_done_is_a_problem_that_says_why(
    url: str, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = httpx.post(f"{url}/admin/v1/{path}", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


def test_a_drain_is_handed_on(settings: Settings, replica: Replica) -> None:
    told = []
    app = create_admin_app(open_operator(settings), drain=lambda: told.append(1))
    tried = _post(app, "/admin/v1/:drain", dry_run=True)
    assert (tried.status_code, tried.json(), told) == (202, {"status": "draining", "dry_run": True}, [])
    assert _post(app, "/admin/v1/:drain").status_code == 202
    assert told == [1]


@pytest.mark.parametrize(("of", "refused"), [("shop", {403}), ("default", {404, 409, 422, 501})])
def test_what_answers_everybody_is_decided_by_who_runs_the_service(
    settings: Settings, replica: Replica, names: list[str], tmp_path: Path, of: str, refused: set[int]
) -> None:
    token = _tokens(tmp_path / "keys.json", of)["admin"]
    guarded = settings.model_copy(update={"guard": GuardSettings(auth=AuthSettings(key_file=tmp_path / "keys.json"))})
    orders: dict[str, dict[str, Any]] = {
        "bundles:stage": {"source": "/nowhere"},
        "bundles:unstage": {"id": "0" * 16},
        "bundles:activate": {"id": "0" * 16},
        "bundles:canary": {"id": "0" * 16, "percent": 5},
        "bundles:rollback": {},
        ":drain": {},
    }
    with admin_port(guarded) as url, httpx.Client(headers={"authorization": f"Bearer {token}"}) as client:
        found = {order: client.post(f"{url}/admin/v1/{order}", json=body).status_code for order, body in orders.items()}
        assert client.get(f"{url}/admin/v1/status").json()["desired"]["active"] == names[0]
    assert {order: status for order, status in found.items() if status not in refused} == {}


def test_the_admin_port_of_a_service_lets_it_leave(
    settings: Settings, replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with admin_beside(settings) as listening:
        assert httpx.post(f"{listening}/admin/v1/:drain", json={}).status_code == 202
    assert Drain(tmp_path).draining


def test_with_a_key_file_the_admin_port_asks_for_the_scope_admin(
    settings: Settings, replica: Replica, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = _tokens(tmp_path / "keys.json", "default")
    auth = AuthSettings(key_file=tmp_path / "keys.json")
    with admin_port(settings.model_copy(update={"guard": GuardSettings(auth=auth)})) as url:
        answers = {
            who: httpx.post(f"{url}/admin/v1/bundles:rollback", json={}, headers=headers).status_code
            for who, headers in {
                "nobody": {},
                "reader": {"authorization": f"Bearer {tokens['read']}"},
                "admin": {"authorization": f"Bearer {tokens['admin']}"},
            }.items()
        }
        assert answers == {"nobody": 401, "reader": 403, "admin": 409}
        assert httpx.get(f"{url}/livez").status_code == 200
        (tmp_path / "admin.key").write_text(tokens["admin"])
        assert "converged" in _ctl(url, "status", "--key-file", str(tmp_path / "admin.key"))
        with pytest.raises(CtlError, match="Authorization: Bearer") as refused:
            _ctl(url, "status")
        assert refused.value.exit_code == 3
    assert "rollback ended with 409, key" in caplog.text


def test_an_order_is_noted_with_the_key_that_gave_it(
    settings: Settings, replica: Replica, names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del replica
    token = _tokens(tmp_path / "keys.json", "default")["admin"]
    (tmp_path / "key").write_text(token)
    guarded = settings.model_copy(update={"guard": GuardSettings(auth=AuthSettings(key_file=tmp_path / "keys.json"))})
    key_id = token.split("_")[1]
    with admin_port(guarded) as url:
        own = ("--key-file", str(tmp_path / "key"))
        for words in (["stage", names[1], "--wait", "20"], ["activate", names[1], "--wait", "20"], ["rollback"]):
            _ctl(url, *words, *own)
        shown = _ctl(url, "status", *own)
        audit = json.loads(_ctl(url, "status", "--json", *own))["desired"]["audit"]
    assert [(line["action"], line["key"]) for line in audit[1:]] == [
        ("stage", key_id),
        ("activate", key_id),
        ("rollback", key_id),
    ]
    assert audit[0]["key"] is None  # by the settings
    assert shown.count(f", key {key_id}") == 3
    noted = [record.getMessage() for record in caplog.records if record.getMessage().startswith("done {")]
    assert [f"'key': '{key_id}'" in line for line in noted] == [True] * 3


def test_the_secrets_of_a_source_are_in_no_log_and_no_answer(
    settings: Settings, url: str, three_bundles: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(three_bundles / names[1]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        where = f"127.0.0.1:{web.server_address[1]}"
        source = f"http://reader:planted-4711@{where}?signature=planted-4711"
        said = [_ctl(url, "stage", source, "--dry-run", "--json"), _ctl(url, "stage", source, "--json")]
        web.shutdown()
    said += [_ctl(url, "status"), _ctl(url, "status", "--json"), caplog.text]
    assert [where in text for text in said] == [True] * 5
    assert [text for text in said if "planted-4711" in text] == []
    assert begin(settings).staged[-1].source == source  # what replicas fetch with


def _tokens(path: Path, tenant: str = "shop") -> dict[str, str]:
    made = {
        scope: new_key(tenant, frozenset({scope}), pepper=b"", random=secrets.token_bytes, now=datetime.now(UTC))
        for scope in PERMISSIONS
    }
    write_key_file(path, KeyFile(keys=tuple(key.record for key in made.values())))
    return {scope: key.token for scope, key in made.items()}


def test_protection_stands_in_front_of_every_admin_route(settings: Settings, replica: Replica) -> None:
    def protect(app: FastAPI) -> None:
        @app.middleware("http")
        async def refuse(request: Request, _: Any) -> Response:
            return Response(status_code=401)

    store, operator = open_state(settings), open_operator(settings)
    app = create_admin_app(operator, overlay=store, desk=open_desk(settings, store, operator), protect=protect)
    paths = [route.path for route in app.routes]  # type: ignore[attr-defined]
    assert {"/admin/v1/bundles:activate", "/admin/v1/rules", "/admin/v1/placements:drop"} <= {*paths}
    assert {path: _post(app, path).status_code for path in paths} == dict.fromkeys(paths, 401)


def test_ctl_says_when_nobody_answers_and_when_words_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CtlError, match="does not answer") as unreached:
        main(["status", "--url", "http://127.0.0.1:9"])
    assert unreached.value.exit_code == 4
    with pytest.raises(CtlError, match="usage: retrank ctl") as wrong:
        main(["activate"])
    assert wrong.value.exit_code == 2


REPLICA = """
import json, sys, time
from retrank.serving.admin import admin_port, open_desk
from retrank.serving.bundles.opening import open_service_replica
from retrank.serving.ingress import free_port
from retrank.serving.settings import parse_settings
replica = open_service_replica(parse_settings(json.loads(sys.argv[1])), sys.argv[2])
replica.run()
print("ready", flush=True)
while replica.front.bundle.id != sys.argv[3]:
    time.sleep(0.02)
answer = replica.front.pick('').recommender.popular(1)
print(answer.items[0].item_id[0], flush=True)
sys.stdin.read()
"""


def test_two_processes_converge_through_one_sqlite_file(settings: Settings, names: list[str]) -> None:
    _, b, _ = names
    begin(settings)
    values = settings.model_dump(mode="json") | {"state": {"url": url_of(settings.state)}}
    arguments = [sys.executable, "-c", REPLICA, json.dumps(values)]
    started = [
        subprocess.Popen([*arguments, who, b], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for who in ("first", "second")
    ]
    try:
        assert [process.stdout.readline() for process in started if process.stdout] == ["ready\n"] * 2
        operator = open_operator(settings)
        assert set(operator.status().replicas) == {"first", "second"}
        operator.stage(b, by=Author("test"))
        _until(lambda: all(b in one.verified for one in operator.status().replicas.values()))
        operator.activate(b, by=Author("test"))
        assert [process.stdout.readline() for process in started if process.stdout] == ["b\n"] * 2
        _until(lambda: operator.status().converged)
    finally:
        for process in started:
            process.communicate(timeout=20)


def test_changes_of_items_that_bundles_hold_are_forgotten_from_the_command_line(settings: Settings, url: str) -> None:
    store = open_state(settings)
    for item in ("i1", "i2", "i3"):
        version = store.change_items("shop", [ItemChange(item, 0, deleted=False, available=False, attributes=None)])
    store.change_items("other", [ItemChange("i1", 0, deleted=True, available=True, attributes=None)])
    words = ("forget-changes", "shop", str(version - 1))
    assert _ctl(url, *words, "--dry-run") == f"changes of 2 items up to version {version - 1} would be forgotten"
    assert len(store.item_changes("shop", 0)) == 3
    assert _ctl(url, *words, "--wait", "20") == f"changes of 2 items up to version {version - 1} are forgotten"
    assert [one.item_id for one in store.item_changes("shop", 0)] == ["i3"]
    assert len(store.item_changes("other", 0)) == 1
    store.close()


def test_a_service_begins_while_its_store_is_away(settings: Settings) -> None:
    away = StateSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}"))
    assert try_begin(settings.model_copy(update={"state": away})) is None
    assert try_begin(settings) == begin(settings)


def test_a_restart_with_new_settings_serves_them(settings: Settings, names: list[str]) -> None:
    assert begin(settings).active == names[0]
    moved = settings.model_copy(update={"bundle": settings.bundle.parent / names[2]})
    assert (begin(moved).active, begin(moved).previous) == (names[2], names[0])


def _until(true: Any) -> None:
    for _ in range(2_000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not become true")


def test_rules_and_placements_are_put_tried_and_dropped_from_the_command_line(url: str, replica: Replica) -> None:
    del replica
    tried = _ctl(url, "rules", "put", "top", "pin", "--items", "b1", "b2", "--place", "1", "--force", "--dry-run")
    assert "rule top would be put" in tried
    assert "beyond the bounds: 0 of 1 replicas said" in tried  # this one answers no requests
    assert "top" not in _ctl(url, "rules")
    _ctl(
        url,
        "rules",
        "put",
        "top",
        "pin",
        "--items",
        "b1",
        "b2",
        "--place",
        "1",
        "--force",
        "--until",
        "2099-01-01T00:00Z",
    )
    shown = _ctl(url, "rules")
    assert [word in shown for word in ("top", "pin", "everywhere", '["b1", "b2"]', "2099", "forced")] == [True] * 6
    _ctl(url, "placements", "put", "home", "--k", "12", "--diversity", '{"mode": "mmr"}', "--force")
    assert '"k": 12' in _ctl(url, "placements")
    assert '"k": 12' not in _ctl(url, "placements", "--tenant", "other")
    _ctl(url, "rules", "drop", "top", "--force")
    assert "everywhere" not in _ctl(url, "rules")
    _ctl(url, "placements", "drop", "home", "--force")
    with pytest.raises(CtlError, match="no placement 'home'; there is: none"):
        _ctl(url, "placements", "drop", "home", "--force")


def test_a_rule_that_reaches_too_far_is_a_conflict_and_flags_stand_in_the_query_too(url: str, replica: Replica) -> None:
    del replica
    body = {"rule": {"id": "top", "action": "block", "items": ["a1"]}}
    refused = httpx.post(f"{url}/admin/v1/rules", json=body)
    assert refused.status_code == 409
    assert "replicas said within" in refused.json()["detail"]
    tried = httpx.post(f"{url}/admin/v1/rules?dry_run=true", json=body).json()
    assert (tried["dry_run"], tried["shelf"]["rules"][0]["id"]) == (True, "top")
    assert httpx.post(f"{url}/admin/v1/rules?force=true", json=body).status_code == 200
    assert (
        httpx.post(f"{url}/admin/v1/rules", json={"rule": {"id": "top"}}).json()["errors"][0]["pointer"]
        == "/rule/action"
    )


@pytest.mark.parametrize("words", [["--json", "--url", "URL", "status"], ["status", "--json", "--url", "URL"]], ids=str)
def test_options_stand_before_the_command_or_after_it(url: str, words: list[str]) -> None:
    lines: list[str] = []
    main([url if word == "URL" else word for word in words], say=lines.append)
    assert "converged" in json.loads("\n".join(lines))


def test_the_page_about_placements_works_as_written(url: str, replica: Replica) -> None:
    del replica
    page = (Path(__file__).parents[4] / "docs" / "placements.md").read_text()
    said = []
    for line in page.split("```bash\n")[1].split("```")[0].splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["retrank", "ctl"]
        said.append(_ctl(url, *words[2:]))
    assert "summer" in said[6]
    assert "safety recall" in said[6]
    shelf = json.loads(_ctl(url, "rules", "--json"))
    assert ([rule["id"] for rule in shelf["rules"]], shelf["placements"]) == (["own-brand", "recall"], [])


def test_a_change_of_rules_is_noted_with_the_key_that_made_it(
    settings: Settings, replica: Replica, tmp_path: Path
) -> None:
    del replica
    tokens = _tokens(tmp_path / "keys.json")
    guarded = settings.model_copy(update={"guard": GuardSettings(auth=AuthSettings(key_file=tmp_path / "keys.json"))})
    (tmp_path / "key").write_text(tokens["admin"])
    with admin_port(guarded) as url:
        body = {"rule": {"id": "top", "action": "block", "items": ["a1"]}, "by": "ada", "force": True, "tenant": "shop"}
        read_only = {"authorization": f"Bearer {tokens['read']}"}
        assert httpx.post(f"{url}/admin/v1/rules", json=body).status_code == 401
        assert httpx.post(f"{url}/admin/v1/rules", json=body, headers=read_only).status_code == 403
        own = ("--key-file", str(tmp_path / "key"))
        _ctl(url, *own, "rules", "put", "top", "block", "--items", "a1", "--force", "--tenant", "shop")
        shelf = json.loads(_ctl(url, "rules", "--json", "--tenant", "shop", *own))
    (change,) = shelf["audit"]
    assert change["key"] == tokens["admin"].split("_")[1]
    assert (change["action"], change["id"], change["forced"]) == ("put rule", "top", True)


@pytest.mark.parametrize(
    ("of", "tenant", "status"),
    [
        ("shop", "shop", 200),
        ("shop", "other", 403),
        ("shop", "default", 403),
        ("default", "default", 200),
        ("default", "other", 200),
    ],
)
def test_a_key_is_for_the_shelf_of_its_own_tenant_and_one_of_the_default_tenant_for_all(
    settings: Settings, replica: Replica, tmp_path: Path, of: str, tenant: str, status: int
) -> None:
    del replica
    token = _tokens(tmp_path / "keys.json", of)["admin"]
    guarded = settings.model_copy(update={"guard": GuardSettings(auth=AuthSettings(key_file=tmp_path / "keys.json"))})
    said = {"tenant": tenant, "force": True}
    rule, placement = {"id": "top", "action": "block", "items": ["a1"]}, {"name": "home", "k": 3}
    with admin_port(guarded) as url, httpx.Client(headers={"authorization": f"Bearer {token}"}) as client:
        answers = [
            client.post(f"{url}/admin/v1/rules", json=said | {"rule": rule}),
            client.post(f"{url}/admin/v1/placements", json=said | {"placement": placement}),
            client.get(f"{url}/admin/v1/rules", params={"tenant": tenant}),
            client.get(f"{url}/admin/v1/placements", params={"tenant": tenant}),
            client.post(f"{url}/admin/v1/rules:drop", json=said | {"id": "top"}),
            client.post(f"{url}/admin/v1/placements:drop", json=said | {"name": "home"}),
            client.post(f"{url}/admin/v1/items:forget", json={"tenant": tenant, "up_to": 1}),
        ]
    assert [answer.status_code for answer in answers] == [status] * len(answers)
    if status == 403:
        assert {answer.json()["code"] for answer in answers} == {"forbidden"}
        assert f"belongs to tenant '{of}'" in answers[0].json()["detail"]


@pytest.mark.parametrize("of", ["shop", "default"])
def test_without_a_tenant_a_call_is_about_that_of_its_key(
    settings: Settings, replica: Replica, tmp_path: Path, of: str
) -> None:
    del replica
    (tmp_path / "key").write_text(_tokens(tmp_path / "keys.json", of)["admin"])
    guarded = settings.model_copy(update={"guard": GuardSettings(auth=AuthSettings(key_file=tmp_path / "keys.json"))})
    with admin_port(guarded) as url:
        own = ("--key-file", str(tmp_path / "key"))
        _ctl(url, *own, "rules", "put", "top", "block", "--items", "a1", "--force")
        _ctl(url, *own, "placements", "put", "home", "--k", "3", "--force")
        assert "top" in _ctl(url, *own, "rules")
        assert "home" in _ctl(url, *own, "placements", "--tenant", of)
        _ctl(url, *own, "placements", "drop", "home", "--force")
    with admin_port(settings) as url:  # whoever needs no key is of the default tenant, and may read all
        shelves = {
            tenant: json.loads(_ctl(url, "rules", "--json", "--tenant", tenant)) for tenant in ("shop", "default")
        }
        assert json.loads(_ctl(url, "rules", "--json")) == shelves["default"]
    assert {tenant: len(shelf["audit"]) for tenant, shelf in shelves.items()} == {"shop": 0, "default": 0} | {of: 3}
