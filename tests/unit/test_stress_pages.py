"""A report written again keeps what somebody wrote by hand below it."""

from pathlib import Path

import pytest
from stress import page


def test_what_stands_below_the_marker_outlives_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "serving.md"
    page.publish(["# Serving", "", "first run"], out)
    assert out.read_text() == "# Serving\n\nfirst run\n"
    out.write_text(f"{out.read_text()}\n{page.BY_HAND}\n\n## How to read this\n\nSlowly.\n")
    for _ in range(2):
        page.publish(["# Serving", "", "second run"], out)
        assert out.read_text() == f"# Serving\n\nsecond run\n\n{page.BY_HAND}\n\n## How to read this\n\nSlowly.\n"
    assert "Slowly" not in capsys.readouterr().out


def test_what_stands_above_the_marker_does_not(tmp_path: Path) -> None:
    out = tmp_path / "serving.md"
    out.write_text("# Serving\n\nby hand, in the wrong place\n")
    page.publish(["# Serving"], out)
    assert out.read_text() == "# Serving\n"
