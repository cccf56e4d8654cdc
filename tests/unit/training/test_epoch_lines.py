"""A run without a progress bar says after every epoch how far it is."""

import re
import sys
from pathlib import Path

import pytest
from ring_world import Configure

from retrank.contract.errors import ConfigError
from retrank.training import fit


def test_without_a_progress_bar_every_epoch_says_a_line(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.learn(configure("said", "trainer.max_epochs=3", "trainer.validate_every=2"), say=lambda _: None)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d{4}"
    assert len(lines) == 3
    assert re.fullmatch(rf"epoch 1/3: loss {number}, \d+\.\d s", lines[0])
    assert all(
        re.fullmatch(rf"epoch \d/3: loss {number}, validation NDCG@10 {number}, \d+\.\d s", one) for one in lines[1:]
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_the_bar_and_a_file_gets_the_line(
    configure: Configure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    fit.learn(configure("barred", "trainer.max_epochs=1", "trainer.progress=true"), say=lambda _: None)
    out = capsys.readouterr().out
    assert ("epoch 1/1" in out) is not terminal
    assert ("Epoch 0" in out) is terminal


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("item_content=category", r"item_content is 'category'; expected null, or a class .*categories: \[category\]"),
        ("warm_start=items", r"warm_start is 'items'; expected null, or a class .*warm_start\._target_="),
    ],
)
def test_a_word_where_a_class_is_wanted_is_refused_with_the_key(configure: Configure, override: str, said: str) -> None:
    config = configure("refused", override)
    with pytest.raises(ConfigError, match=said):
        fit.learn(config, say=lambda _: None)
    assert not Path(config["run_dir"]).exists()
