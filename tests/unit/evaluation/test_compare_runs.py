from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from retrank.contract.errors import ConfigError, DataError, SourceError
from retrank.training.compare import main
from retrank.training.evaluator import Evaluation, save_ranks


def _run(folder: Path, evaluation: Evaluation, *, data_hash: str = "abc", protocol: str = "P1") -> str:
    folder.mkdir()
    save_ranks(evaluation, folder / "ranks.npz", data_hash=data_hash, protocol=protocol)
    return str(folder)


def test_the_better_run_is_called_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Evaluation, poor: Evaluation
) -> None:
    main([_run(tmp_path / "poor", poor), _run(tmp_path / "good", good)])
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("NDCG@10"))
    assert line.endswith("better")
    assert "Recall" not in printed  # one target per case: it would repeat HR
    page = (tmp_path / "good" / "compare.html").read_text()
    assert "Difference B − A" in page
    assert page.count("<svg") == 2


def test_equal_runs_differ_by_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Evaluation) -> None:
    main([_run(tmp_path / "one", good), _run(tmp_path / "two", good)])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("HR@10"))
    assert line.split()[3] == "+0.0000"
    assert line.endswith("1.000")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data_hash": "xyz"}, "data hash is 'abc' and 'xyz'"),
        ({"protocol": "temporal"}, "protocol is 'P1' and 'temporal'"),
    ],
)
def test_runs_on_different_data_or_protocol_are_refused(
    tmp_path: Path, good: Evaluation, other: dict[str, str], message: str
) -> None:
    runs = [_run(tmp_path / "one", good), _run(tmp_path / "two", good, **other)]
    with pytest.raises(DataError, match=message):
        main(runs)
    assert not list(tmp_path.rglob("compare.html"))


SPLITS = "retrank.data.splits"
CHOSEN = {"_target_": f"{SPLITS}.GlobalTemporal", "validation_share": 0.05}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"split": {"_target_": f"{SPLITS}.GlobalTemporal", "validation_share": 0.1, "test_share": 0.1}},
            ["one has split.validation_share=0.1, ", "two again with split.validation_share=0.1, or "],
        ),
        (
            {"split": {"_target_": f"{SPLITS}.LeaveLastOut"}},
            ["one has split=leave_last_out, ", "or {one} with split=global_temporal split.validation_share=0.05"],
        ),
    ],
)
def test_the_settings_that_make_two_runs_comparable_are_named(
    tmp_path: Path, good: Evaluation, settings: dict[str, object], said: list[str]
) -> None:
    runs = [_run(tmp_path / "one", good), _run(tmp_path / "two", good, protocol="temporal")]
    (tmp_path / "one" / "config.yaml").write_text(yaml.safe_dump({"store": "s", **settings}))
    (tmp_path / "retriever").mkdir()
    (tmp_path / "retriever" / "config.yaml").write_text(yaml.safe_dump({"store": "s", "split": CHOSEN}))
    ranked: dict[str, object] = {
        "run": str(tmp_path / "retriever"),
        "store": None,
        "ranker": {},
    }  # the run of a ranker has no split
    (tmp_path / "two" / "config.yaml").write_text(yaml.safe_dump(ranked))
    with pytest.raises(DataError, match="protocol is 'P1' and 'temporal'") as raised:
        main(runs)
    assert all(part.replace("{one}", runs[0]) in str(raised.value) for part in said)


def test_runs_on_two_stores_are_told_which(tmp_path: Path, good: Evaluation) -> None:
    runs = [_run(tmp_path / "one", good), _run(tmp_path / "two", good, data_hash="xyz")]
    for name in ("one", "two"):
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"store": f"stores/{name}", "split": CHOSEN}))
    with pytest.raises(DataError, match=r"one has store=stores/one, .*two has store=stores/two: train both on one"):
        main(runs)


def test_runs_on_different_cases_are_refused(tmp_path: Path, good: Evaluation) -> None:
    other_targets = replace(good.ranks, targets=np.roll(good.ranks.targets, 1))
    runs = [_run(tmp_path / "one", good), _run(tmp_path / "two", replace(good, ranks=other_targets))]
    with pytest.raises(DataError, match="targets of their test cases differ"):
        main(runs)


@pytest.mark.parametrize("arguments", [[], ["one"], ["one", "two", "three"], ["same", "same"]])
def test_anything_but_two_runs_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="usage: retrank compare RUN RUN"):
        main(arguments)


def test_a_folder_without_ranks_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=r"ranks\.npz: no such file"):
        main([str(tmp_path / "one"), str(tmp_path / "two")])


def test_a_folder_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"thrid: no such folder; expected one that"):
        main([str(tmp_path), str(tmp_path / "thrid")])
