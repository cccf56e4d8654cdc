"""Tokens and their key: made only with the key, changed never, and the key file is its owner's."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import ConfigError
from retrank.serving.tokens import KEY_VARIABLE, Claims, Signer, TokenRefused, load_key

SIGNER = Signer(bytes(range(32)))
CLAIMS = Claims(id="ab", bundle="b", tenant="t", person="", placement="home", at=1)


def test_a_token_says_what_was_signed() -> None:
    assert SIGNER.verify(SIGNER.sign(CLAIMS)) == CLAIMS


@given(place=st.integers(0, 10_000), letter=st.sampled_from("Aa0_-.=é"))
def test_any_change_of_a_token_is_refused(place: int, letter: str) -> None:
    token = SIGNER.sign(CLAIMS)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(TokenRefused):
            SIGNER.verify(changed)


@given(st.text(alphabet="v1.aZ_-=é", max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        SIGNER.verify(text)


def test_another_key_refuses_and_hashes_persons_differently() -> None:
    other = Signer(b"x" * 32)
    with pytest.raises(TokenRefused, match="another key"):
        other.verify(SIGNER.sign(CLAIMS))
    assert other.person("t", "u:ann") != SIGNER.person("t", "u:ann") != SIGNER.person("t2", "u:ann")


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token.key"
    key = load_key(path, {})
    assert load_key(path, {}) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token.key"]


def test_the_environment_wins_and_nonsense_is_named(tmp_path: Path) -> None:
    assert load_key(tmp_path / "key", {KEY_VARIABLE: "ab" * 32}) == b"\xab" * 32
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        load_key(tmp_path / "key", {KEY_VARIABLE: "not hexadecimal"})
    with pytest.raises(ConfigError, match="2 bytes"):
        Signer(load_key(tmp_path / "key", {KEY_VARIABLE: "abab"}))
