"""The training benchmark works at a size that takes seconds, without any other library, and writes its report."""

import json
from functools import partial
from pathlib import Path

import bench_train
import numpy as np
import pytest
from train_bench.options import Options
from train_bench.peers import PEERS
from train_bench.processes import Contestant, ContestantError, Entry
from train_bench.registry import CASES
from train_bench.result import Goal, Result
from train_bench.world import ml1m_like

REQUIREMENTS = Path(bench_train.__file__).parent / "train_bench" / "requirements"


_QUICK = ("loader",)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in _QUICK else pytest.mark.slow) for case in CASES]
)
def test_a_case_runs_without_peers_and_says_what_it_measured(case: str, tmp_path: Path) -> None:
    report = tmp_path / "training.md"
    bench_train.main(
        ["--case", case, "--tiny", "--peers", "none", "--rounds", "1", "--threads", "1", "--out", str(report)]
    )
    kept = json.loads((tmp_path / "training.json").read_text())[case]
    assert kept["rows"]
    assert {len(row) for row in kept["rows"]} == {len(kept["columns"])}
    assert kept["measured"]
    assert kept["command"].startswith(f"python scripts/bench_train.py --case {case}")
    assert {"cpu", "cores", "load", "torch"} <= set(kept["machine"])
    text = report.read_text()
    assert f"## {kept['title']}" in text
    assert kept["command"] in text
    assert all(goal["text"] in text for goal in kept["goals"])


def _give(result: Result, _: Options) -> Result:
    return result


def test_a_second_case_joins_the_first_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "training.md"
    for name, reached in (("loader", True), ("softmax", False)):
        result = Result(name, f"title of {name}", ["about"], ["a"], [["1"]], [Goal("fast enough", "3x", reached)])
        monkeypatch.setitem(CASES, name, partial(_give, result))
        bench_train.main(["--case", name, "--peers", "none", "--provisional", "--out", str(report)])
    text = report.read_text()
    assert "Provisional" in text
    assert "| title of loader | fast enough | 3x | yes |" in text
    assert "| title of softmax | fast enough | 3x | **no** |" in text


def test_the_world_has_the_length_law_of_ml1m_and_no_repeats() -> None:
    world = ml1m_like(num_users=1_500, num_items=3_416)
    lengths = world.histories.lengths
    assert np.median(lengths) == pytest.approx(93, rel=0.1)
    assert lengths.mean() == pytest.approx(163, rel=0.1)
    assert all(len(np.unique(row)) == len(row) for row in world.histories)
    assert 1 <= world.histories.item_rows.min() <= world.histories.item_rows.max() <= world.num_items
    again = ml1m_like(num_users=1_500, num_items=3_416)
    np.testing.assert_array_equal(again.histories.item_rows, world.histories.item_rows)


def test_a_contestant_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(ContestantError, match=r"broken ended early[\s\S]*settings\.json"),
        Contestant(Entry("broken", "rank_retrank.py"), tmp_path, threads=1) as contestant,
    ):
        contestant.hear()


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_says_what_it_needs_and_leaves_torch_alone(peer: str) -> None:
    lines = [line for path in REQUIREMENTS.glob(f"{peer}*.txt") for line in path.read_text().splitlines()]
    assert any("==" in line for line in lines), "the peer itself is pinned"
    assert not any(line.startswith("torch") for line in lines), "torch is installed first, in one version for all"
