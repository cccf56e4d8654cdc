"""A secret that is mounted as a file names the store."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from retrank.contract.errors import ConfigError
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.settings import StateSettings


def _settings(path: Path) -> StateSettings:
    return StateSettings(url=SecretStr(f"file:{path}"))


def test_the_url_is_read_from_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "state_url"
    secret.write_text(f"sqlite:{tmp_path / 'state.sqlite'}\n")
    store = open_store(_settings(secret))
    store.ping()
    store.close()
    assert (tmp_path / "state.sqlite").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "expected the URL of a store"),
        (b"\xff\xfe", "not text"),
        (b"redis://:sesame@h/" + b"x" * 5_000, "on one line"),
        (b"file:/run/sesame", "not another file:"),
        (b"sesame://h", "state url of kind 'sesame'"),
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(tmp_path: Path, content: bytes | None, said: str) -> None:
    secret = tmp_path / "state_url"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        open_store(_settings(secret))
    assert "sesame@" not in str(refused.value)
