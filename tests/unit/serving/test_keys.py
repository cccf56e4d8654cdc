"""API keys: what is kept of them, who gets in, and the command that makes and revokes them."""

import json
import os
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.cli import main
from retrank.contract.errors import ConfigError
from retrank.serving.guard.caller import Caller, Permission
from retrank.serving.guard.keyring import LOOK_EVERY_S, Keyring
from retrank.serving.guard.keys import KeyFile, KeyRecord, NewKey, match, new_key, read_key_file, write_key_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READ: frozenset[Permission] = frozenset({"read"})
RANDOM = random.Random(7)


def _made(pepper: bytes) -> NewKey:
    return new_key("shop", READ, pepper=pepper, random=RANDOM.randbytes, now=NOW)


def _secret(token: str) -> str:
    return token.split("_", 2)[2]


MADE = _made(b"p")
RECORDS = {MADE.record.id: MADE.record}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_opens_and_its_record_does_not_hold_the_secret() -> None:
    assert match(MADE.token, RECORDS, b"p") == MADE.record
    assert _secret(MADE.token) not in MADE.record.model_dump_json()
    assert re.fullmatch(r"retrank_[0-9a-f]{12}_[\w-]{43}", MADE.token)


def test_a_record_planted_without_the_pepper_opens_nothing() -> None:
    planted = _made(b"guess")
    assert match(planted.token, {planted.record.id: planted.record}, b"p") is None


def test_two_keys_that_swapped_records_open_nothing() -> None:
    other = _made(b"p")
    swapped = {MADE.record.id: other.record.model_copy(update={"id": MADE.record.id})}
    assert match(MADE.token, swapped, b"p") is None
    assert match(f"retrank_{MADE.record.id}_{_secret(other.token)}", swapped, b"p") is None


def test_a_revoked_key_opens_nothing() -> None:
    revoked: dict[str, KeyRecord] = {MADE.record.id: MADE.record.model_copy(update={"revoked_at": NOW})}
    assert match(MADE.token, revoked, b"p") is None


@given(position=st.integers(0, len(MADE.token) - 1), letter=st.sampled_from("aZ09_- é\0"))
def test_one_changed_letter_opens_nothing(position: int, letter: str) -> None:
    changed = MADE.token[:position] + letter + MADE.token[position + 1 :]
    assert (match(changed, RECORDS, b"p") is None) == (changed != MADE.token)


@given(token=st.text(max_size=80))
def test_no_text_is_a_key_by_chance(token: str) -> None:
    assert match(token, RECORDS, b"p") is None


def _file(path: Path, *records: KeyRecord) -> Path:
    write_key_file(path, KeyFile(keys=records))
    return path


def test_a_key_file_is_private_and_one_that_is_not_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path / "keys.json", MADE.record)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    read_key_file(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key_file(path)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"id": "x"}]}', '{"version": 9}', '{"secret": "hush"}'])
def test_a_broken_key_file_is_refused_without_quoting_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json") as refused:
        read_key_file(path)
    assert "hush" not in str(refused.value)


def test_a_revoked_key_stops_working_within_a_second_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = _file(tmp_path / "keys.json", MADE.record), Clock()
    keyring = Keyring(path, pepper=b"p", clock=clock)
    assert keyring.caller(MADE.token) == Caller("shop", MADE.record.id, READ)
    path.write_text("{")
    clock.now += LOOK_EVERY_S
    assert keyring.caller(MADE.token) is not None
    assert "keys stay as they were" in caplog.text
    _file(path, MADE.record.model_copy(update={"revoked_at": NOW}))
    assert keyring.caller(MADE.token) is not None
    clock.now += LOOK_EVERY_S
    assert keyring.caller(MADE.token) is None


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        status = main(["keys", *words])
        return status, *capsys.readouterr()

    return run


def test_keys_are_made_listed_and_revoked(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    path = tmp_path / "keys.json"
    status, said, told = command("create", str(path), "--tenant", "shop", "--scopes", "read,ingest")
    token = said.removesuffix("\n")  # stdout is the key alone, so that `> key` makes a file of it
    key_id = token.split("_")[1]
    assert status == 0
    assert "only this once" in told
    assert re.fullmatch(r"retrank_[0-9a-f]{12}_[\w-]{43}", token)
    assert _secret(token) not in told
    assert _secret(token) not in path.read_text()
    keyring = Keyring(path, pepper=os.environ.get("RETRANK_KEY_PEPPER", "").encode(), clock=Clock())
    assert keyring.caller(token) == Caller("shop", key_id, frozenset({"read", "ingest"}))
    command("create", str(path))
    assert [row.split()[0] for row in command("list", str(path))[1].splitlines()][:2] == ["id", key_id]
    assert command("revoke", str(path), key_id)[1] == f"revoked {key_id}\n"
    kept = json.loads(path.read_text())["keys"]
    assert [key["revoked_at"] is None for key in kept] == [False, True]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["create", "{}/keys.json", "--scopes", "read,root"], "read,root"),
        (["create", "{}/keys.json", "--tenant", "Two Words"], "Two Words"),
        (["create", "{}/nowhere/keys.json"], "nowhere"),
        (["revoke", "{}/keys.json", "abc"], "no key 'abc'"),
        (["list", "{}/keys.json"], "keys create"),
    ],
)
def test_a_wrong_argument_is_named(
    tmp_path: Path, words: list[str], named: str, command: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, error = command(*(word.format(tmp_path) for word in words))
    assert status == 2
    assert named in error


def test_a_key_given_for_its_id_is_not_quoted(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    command("create", str(tmp_path / "keys.json"))
    status, _, error = command("revoke", str(tmp_path / "keys.json"), MADE.token)
    assert (status, MADE.record.id in error) == (2, True)
    assert _secret(MADE.token)[:8] not in error
