"""Mistakes that are found before anything is started; real folders, no Ray."""

from pathlib import Path

import pytest

from retrank.contract.errors import ConfigError
from retrank.serving.before_start import refuse_unwritable
from retrank.serving.settings import Settings
from retrank.serving.tokens import KEY_VARIABLE


def _settings(tmp_path: Path, **said: object) -> Settings:
    return Settings.model_validate({"bundle": tmp_path / "bundles", **said})


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    settings = _settings(tmp_path, events={"directory": tmp_path / "deep" / "logs"})
    refuse_unwritable(settings)
    assert settings.folder.is_dir()
    assert list((tmp_path / "deep" / "logs").iterdir()) == []


def test_a_folder_of_events_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serving\.events\.directory: cannot write to /proc/x \(No such file"):
        refuse_unwritable(_settings(tmp_path, events={"directory": "/proc/x"}))


@pytest.mark.parametrize("stream", ["events", "decisions", "rejected", "erasures"])
def test_a_stream_that_is_no_folder_is_named(tmp_path: Path, stream: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / stream).write_text("")
    with pytest.raises(ConfigError, match=rf"logs/{stream} \(Not a directory\)"):
        refuse_unwritable(_settings(tmp_path, events={"directory": tmp_path / "logs"}))


def test_a_state_file_in_a_folder_that_is_not_there_is_a_slip_of_the_pen(tmp_path: Path) -> None:
    """SQLite would say so with every request, and the service would answer without profiles."""
    url = f"sqlite:{tmp_path / 'mistyped' / 'state.sqlite'}"
    with pytest.raises(ConfigError, match=r"serving\.state\.url: cannot write to .*mistyped \(No such file"):
        refuse_unwritable(_settings(tmp_path, state={"url": url}))
    assert not (tmp_path / "mistyped").exists()


def test_a_state_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serving\.state\.url: .*no file that this user may write to"):
        refuse_unwritable(_settings(tmp_path, state={"url": f"sqlite:{tmp_path}"}))


def test_a_service_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"serving\.service\.folder: cannot write to .*taken"):
        refuse_unwritable(_settings(tmp_path, service={"folder": tmp_path / "taken"}))


def test_a_token_key_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "no digits")
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        refuse_unwritable(_settings(tmp_path))


def test_a_redis_that_is_away_is_no_mistake(tmp_path: Path) -> None:
    """A service that is started again while its Redis is away answers without profiles, as it would have gone on to."""
    refuse_unwritable(_settings(tmp_path, state={"url": "redis://127.0.0.1:1/0"}))
