"""`retrank ctl --wait` says what became of an order, not what was ordered."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from swap_world import QUICK, names_of

from retrank.contract.bundle import ITEM_VECTORS
from retrank.serving.admin import admin_port
from retrank.serving.bundles.opening import begin, open_operator, open_service_replica
from retrank.serving.ctl import CtlError, main
from retrank.serving.ctl_wait import is_there, refused, undone
from retrank.serving.ingress import free_port
from retrank.serving.settings import Settings, parse_settings


@pytest.fixture
def library(three_bundles: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three_bundles, tmp_path / "bundles", symlinks=True))


@pytest.fixture
def settings(library: Path, tmp_path: Path) -> Settings:
    return parse_settings(
        {
            "bundle": library / names_of(library)[0],
            "state": {"url": f"sqlite:{tmp_path / 'state.sqlite'}"},
            "bundles": QUICK.model_dump(),
            "admin": {"port": free_port()},
        }
    )


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    begin(settings)
    replica = open_service_replica(settings, "one")
    replica.run()
    with admin_port(settings) as listening:
        yield listening
    replica.close()


def _ctl(url: str, *words: str) -> str:
    lines: list[str] = []
    main([*words, "--url", url], say=lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize("order", [["activate", "ID"], ["canary", "ID", "10"]], ids=lambda order: order[0])
def test_an_order_whose_bundle_was_refused_fails_with_the_reason(
    url: str, library: Path, settings: Settings, order: list[str]
) -> None:
    old, spoiled, _ = names_of(library)
    _ctl(url, "stage", spoiled, "--wait", "20")
    (library / spoiled / ITEM_VECTORS).write_bytes(b"spoiled after it was checked")
    with pytest.raises(CtlError, match=rf"taken back, refuse of {spoiled} by one: .*{ITEM_VECTORS}") as failed:
        _ctl(url, *(spoiled if word == "ID" else word for word in order), "--wait", "20")
    assert failed.value.exit_code == 5
    status = open_operator(settings).status()
    assert status.desired is not None
    assert (status.desired.active, status.desired.canary) == (old, None)


def test_a_source_that_every_replica_refuses_is_waited_for_no_longer(url: str, library: Path, tmp_path: Path) -> None:
    name = names_of(library)[2]
    source = tmp_path / "elsewhere" / name
    shutil.move(library / name, source)
    (source / ITEM_VECTORS).write_bytes(b"spoiled on the way")
    with pytest.raises(CtlError, match=rf"stage: no replica can hold it: .*{ITEM_VECTORS}") as failed:
        _ctl(url, "stage", str(source), "--wait", "20")
    assert failed.value.exit_code == 5


def test_a_dry_run_waits_for_nothing(url: str, library: Path) -> None:
    other = names_of(library)[1]
    _ctl(url, "stage", other, "--wait", "20")
    assert f"active would be {other}" in _ctl(url, "activate", other, "--dry-run", "--wait", "20")


def _line(action: str, bundle: str, reason: str = "") -> dict[str, Any]:
    return {"at": 1.0, "by": "ada", "action": action, "id": bundle, "reason": reason}


def _desired(generation: int, active: str, *audit: dict[str, Any], canary: str | None = None) -> dict[str, Any]:
    on_trial = {"id": canary, "percent": 5.0} if canary else None
    return {"generation": generation, "active": active, "canary": on_trial, "audit": list(audit)}


ORDER = _line("activate", "b")
ORDERED = {"desired": _desired(2, "b", ORDER)}


@pytest.mark.parametrize(
    ("now", "there", "said"),
    [
        (_desired(1, "a"), False, None),  # read before the order was written
        (_desired(2, "b", ORDER), True, None),
        (_desired(2, "b", ORDER, _line("stage", "c")), True, None),
        (_desired(3, "a", ORDER, _line("refuse", "b", "bad")), False, "refuse of b by ada: bad; active is a"),
        (_desired(3, "a", ORDER, _line("rollback", "b")), False, "rollback of b by ada; active is a"),
        (
            _desired(4, "c", ORDER, _line("refuse", "b", "bad"), _line("activate", "c")),
            False,
            "refuse of b by ada: bad; active is c",
        ),
        (_desired(3, "c", ORDER, _line("activate", "c")), False, "activate of c by ada; active is c"),
        (_desired(4, "b", ORDER, _line("refuse", "b"), _line("activate", "b")), True, None),  # somebody tried again
        (
            _desired(3, "b", ORDER, _line("canary", "c", "5 %"), canary="c"),
            False,
            "canary of c by ada: 5 %; active is b",
        ),
        (_desired(9, "a", _line("refuse", "b", "bad")), False, "refuse of b by ada: bad; active is a"),  # long ago
        (_desired(9, "a", _line("stage", "c")), False, "by changes that the audit trail no longer holds; active is a"),
    ],
)
def test_an_order_stands_as_long_as_the_fleet_should_serve_what_it_says(
    now: dict[str, Any], there: bool, said: str | None
) -> None:
    status = {"desired": now, "converged": True, "replicas": {"one": {}}}
    assert (is_there("activate", ORDERED, status), undone("activate", ORDERED, status)) == (there, said)


STAGED = {"desired": {"staged": [{"id": "b"}], "audit": [{"at": 100.0}]}}


def _said(at: float | None, why: str = "bad") -> dict[str, Any]:
    return {"verified": [], "resident": [], "errors": {"b": why} if at else {}, "errors_at": {"b": at} if at else {}}


@pytest.mark.parametrize(
    ("replicas", "why"),
    [
        ([_said(101.0)], "bad"),
        ([_said(101.0), _said(102.0)], "bad"),
        ([_said(101.0, "no room"), _said(102.0)], "bad; no room"),
        ([_said(101.0), _said(None)], None),  # it has not tried yet, or holds the bundle
        ([_said(99.0)], None),  # of an earlier try: somebody has repaired the source since
        ([_said(99.0), _said(101.0)], None),
        ([], None),
    ],
)
def test_staging_is_refused_once_every_replica_has_tried_since(replicas: list[dict[str, Any]], why: str | None) -> None:
    status = {"desired": None, "converged": True, "replicas": {str(place): one for place, one in enumerate(replicas)}}
    assert refused("stage", STAGED, status) == why
    assert refused("activate", STAGED, status) is None


def test_a_replica_of_an_older_version_that_tells_no_times_is_waited_for() -> None:
    status = {"replicas": {"old": {"verified": [], "resident": [], "errors": {"b": "bad"}}}}
    assert refused("stage", STAGED, status) is None
