"""`retrank ctl --key-file`: the key goes to the service and nowhere else."""

from pathlib import Path

import pytest
from scripted_service import Said, serving

from retrank.cli import main

SECRET = "planted" * 6 + "-"
KEY = f"retrank_0123456789ab_{SECRET}"
NOWHERE = "http://127.0.0.1:9"  # whoever asks it exits with 4


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f" {KEY}\r\n", f"{KEY}\nshown only this once; id 0123456789ab\n"])
def test_the_first_line_of_the_file_is_the_key(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    with serving(Said(body={"bundles": []})) as service:
        assert main(["ctl", "bundles", "--key-file", str(tmp_path / "key"), "--url", service.url]) == 0
    assert service.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n" + KEY.encode(),
        KEY[:-1].encode(),
        f"key: {KEY}".encode(),
        f"{KEY} note".encode(),
        KEY.encode("utf-16"),
    ],
)
def test_what_cannot_be_a_key_is_refused_before_it_is_sent(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(content)
    with serving(Said(body={"bundles": []})) as service:
        assert main(["ctl", "bundles", "--key-file", str(tmp_path / "key"), "--url", service.url]) == 2
    assert service.asked == []
    said = capsys.readouterr().err
    assert "is no API key" in said
    assert "planted" not in said


@pytest.mark.parametrize(
    "words",
    [["--key-file", KEY, "bundles"], ["bundles", KEY], ["bundles", KEY[:-9]], ["--url", f"{NOWHERE}/{KEY}", "bundles"]],
)
def test_a_key_in_the_wrong_place_is_not_quoted(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--url", NOWHERE, *words]) != 0
    said = capsys.readouterr().err
    assert "planted" not in said
    assert "retrank_0123456789ab_..." in said


def test_a_key_that_a_refusal_echoes_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text(KEY)
    with serving(Said(401, {"detail": f"no such key: {KEY}"})) as service:
        assert main(["ctl", "bundles", "--key-file", str(tmp_path / "key"), "--url", service.url]) == 3
    said = capsys.readouterr()
    assert "no such key: retrank_0123456789ab_..." in said.err
    assert "planted" not in said.out + said.err
