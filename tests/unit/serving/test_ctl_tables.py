"""What `retrank ctl status` prints of a replica: what it lacks now, and what went wrong and is over, with its time."""

import argparse
from typing import Any

import pytest

from retrank.serving.ctl_tables import table

AT = 1_700_000_000.0
DATED = "2023-11-14 22:13:20"


def _now(desired: dict[str, Any] | None = None, **said: Any) -> str:
    replica = {
        "active": "a", "generation": 3, "figures": {}, "loading": None, "errors": {}, "errors_at": {}, "verified": [],
        "resident": ["a"], "memory": {"private": 1e6},
    } | said  # fmt: skip
    wanted = {
        "generation": 3, "active": "a", "previous": None, "canary": None, "staged": [], "audit": [],
    } | (desired or {})  # fmt: skip
    answer = {"desired": wanted, "converged": True, "replicas": {"one": replica}}
    [line] = [line for line in table(argparse.Namespace(command="status"), answer) if line.startswith("one ")]
    return line.split(maxsplit=6)[6]


BAD = {"errors": {"b": "b is bad"}, "errors_at": {"b": AT}}


@pytest.mark.parametrize(
    ("desired", "said", "shown"),
    [
        ({}, {}, "ok"),
        ({}, {"loading": "b"}, "loading b"),
        ({}, BAD, f"ok (earlier: {DATED} b is bad)"),  # refused, and taken back
        ({"staged": [{"id": "b"}]}, BAD, f"{DATED} b is bad"),  # cannot be fetched
        ({"staged": [{"id": "b"}]}, {**BAD, "verified": ["b"]}, f"ok (earlier: {DATED} b is bad)"),
        ({"active": "b", "generation": 4}, BAD, f"{DATED} b is bad"),  # this replica alone cannot open it
        ({"canary": {"id": "b", "percent": 5.0}, "generation": 4}, BAD, f"{DATED} b is bad"),
        ({}, {"left_alone": {"a": ["ranker"]}}, "ranker of a is left alone"),
        ({}, {**BAD, "left_alone": {"a": ["ranker"]}}, f"ranker of a is left alone (earlier: {DATED} b is bad)"),
        ({"staged": [{"id": "b"}]}, {"errors": {"b": "b is bad"}, "errors_at": {}}, "b is bad"),
    ],
)
def test_what_holds_a_replica_up_comes_first_and_what_is_over_is_dated(
    desired: dict[str, Any], said: dict[str, Any], shown: str
) -> None:
    assert _now(desired, **said) == shown
