"""Pages of the documentation, followed to the letter; the CSV of one of them is written here."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
_STOP_SERVICE = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _write_shop(path: Path, *, num_users: int = 150, num_items: int = 40) -> None:
    """Write shoppers who walk along the shelf: after item i mostly comes i + 1."""
    random = np.random.default_rng(7)
    rows = []
    for user in range(num_users):
        moment = datetime(2025, 1, 1) + timedelta(minutes=int(random.integers(0, 300 * 1440)))
        item = int(random.integers(0, num_items))
        for _ in range(int(random.integers(4, 20))):
            item = (item + int(random.choice([1, 1, 1, 2, 5]))) % num_items
            moment += timedelta(hours=int(random.integers(1, 60)))
            price = round(1 + 0.37 * item, 2)
            rows.append((f"c{user}", f"p{item}", moment.isoformat(), price, "web", f"Product {item}", price))
    rows.sort(key=lambda row: row[2])
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["customer", "product", "bought_at", "amount", "channel", "product_name", "unit_price"])
        writer.writerows(rows)


@pytest.mark.ray
@pytest.mark.slow
def test_bringing_your_own_data_works_as_written(tmp_path: Path) -> None:
    _write_shop(tmp_path / "shop.csv")
    said = _follow("bring-your-own-data.md", tmp_path)
    assert '"items":[{"item_id":"p' in said
    assert (tmp_path / "runs" / "shop" / "first" / "report.html").is_file()


@pytest.mark.slow
def test_adding_a_model_works_as_written(tmp_path: Path) -> None:
    for part in ("src", "configs", "tests", "scripts"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    said = _follow("add-a-model.md", tmp_path, limit_s=560)
    assert "10,000 identical" in said or "near-ties, 0 different" in said
    assert len(re.findall(r"(?m)^ +\d  +-?\d+\.\d{3}  ", said)) == 3
    assert (tmp_path / "runs" / "mine" / "first" / "report.html").is_file()
    kept = re.search(r"(?m)^(\d+) passed, \d+ deselected", said)
    assert kept is not None, said[-4000:]
    promises = (tmp_path / "tests" / "behaviour" / "test_query_encoders.py").read_text().count("\n@every_encoder\n")
    assert int(kept[1]) >= promises > 0


def _follow(page: str, folder: Path, *, limit_s: float = 280) -> str:
    """Run every bash block of a page in a folder, as one script; return what it printed."""
    blocks = _BLOCK.findall((ROOT / "docs" / page).read_text())
    script = "\n".join(["set -euo pipefail", _STOP_SERVICE, *blocks])
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        pytest.fail(f"the page did not come to its end:\n{said[-4000:]}")
    assert process.returncode == 0, said[-4000:]
    return said
