from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

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
    with pytest.raises(SourceError, match=r"ranks\.npz: no such file"):
        main([str(tmp_path / "one"), str(tmp_path / "two")])
