"""`make demo` without the installation: the whole path on the built-in shop, and again on what is already there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from retrank.serving.ingress import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
BRIEF = ("trainer.max_epochs=1", "baselines=false")


def _demo(folder: Path, *overrides: str) -> str:
    command = [sys.executable, str(SCRIPT), "--once", f"--port={free_port()}", *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_make_hands_the_port_on() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "demo", "PORT=8123"], cwd=SCRIPT.parents[1], capture_output=True, text=True, check=True
    )
    assert "scripts/demo.py --port 8123" in told.stdout


@pytest.mark.slow
def test_the_demo_answers_and_does_nothing_twice(tmp_path: Path) -> None:
    first = _demo(tmp_path, *BRIEF)
    assert "first answer after" in first
    assert len(re.findall(r"(?m)^ *\d+ +-?\d+\.\d{3} ", first)) == 10  # rank, score, ...
    second = _demo(tmp_path, *BRIEF)
    assert "2/4 reuse the trained run" in second
    assert "3/4 reuse the bundle" in second
    assert "retrank train" not in second
    (run_dir,) = (tmp_path / "runs" / "online_retail_sasrec").iterdir()
    for name in ("run_card.json", "report.html"):  # as if it had been interrupted behind its first checkpoint
        (run_dir / name).unlink()
    third = _demo(tmp_path, *BRIEF)
    assert f"2/4 go on with the run {run_dir.relative_to(tmp_path)}" in third
    assert (run_dir / "report.html").is_file()
    assert "3/4 reuse the bundle" in third
    other = _demo(tmp_path, *BRIEF, "seed=2")
    assert "2/4 train" in other
    assert "3/4 export" in other
    assert len(list((tmp_path / "runs" / "online_retail_sasrec").iterdir())) == 2
