"""Wrong words of `retrank ctl` are named with exit status 2, before anything is sent."""

import pytest

from retrank.cli import main

NOWHERE = "http://127.0.0.1:9"  # whoever asks it exits with 4


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["canary", "ID", "nan"], "'nan' is not a finite number"),
        (["canary", "ID", "inf"], "'inf' is not a finite number"),
        (["canary", "ID", "five"], "'five' is not a finite number"),
        (["canary", "ID", "101"], "'101' is not in 0..100"),
        (["canary", "ID", "-1"], "'-1' is not in 0..100"),
        (["activate", "ID", "--wait", "nan"], "'nan' is not a finite number"),
        (["activate", "ID", "--wait", "-3"], "'-3' is negative"),
        (["rules", "put", "own", "boost", "--strength", "nan"], "--strength: 'nan' is not a finite number"),
        (["rules", "put", "own", "boost", "--strength", "1e999"], "'1e999' is not a finite number"),
        (["rules", "put", "own", "block", "--filter", '{"gte": NaN}'], "--filter: '{\"gte\": NaN}' is not JSON"),
        (["rules", "put", "own", "block", "--filter", "[" * 100_000], "is not JSON"),
        (["placements", "put", "home", "--max-explore", "-inf"], "expected one argument"),
        (["placements", "put", "home", "--max-explore=-inf"], "'-inf' is not a finite number"),
        (["placements", "put", "home", "--explore", '{"strength": 1e999}'], "is not JSON"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_word_that_cannot_be_meant_is_named(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--url", NOWHERE, *words]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said) < 2_000


@pytest.mark.parametrize("percent", ["0", "2.5", "100"])
def test_every_share_of_the_traffic_is_asked_for(percent: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--url", NOWHERE, "canary", "ID", percent]) == 4
    assert "does not answer" in capsys.readouterr().err
