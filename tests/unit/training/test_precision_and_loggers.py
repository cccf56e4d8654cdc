"""The number format follows the hardware; loggers follow the configuration."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from retrank.contract.errors import ConfigError
from retrank.training.loggers import Loggers
from retrank.training.precision import choose


@pytest.mark.skipif(torch.cuda.is_available(), reason="the choice on a CPU")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2 avx512f avx512_vnni", "32-true"), ("avx512f avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed")],
)
def test_auto_takes_bf16_only_where_the_cpu_multiplies_it(tmp_path: Path, flags: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    assert choose("auto", tmp_path / "cpuinfo") == expected


def test_a_format_by_name_is_taken_and_others_are_refused() -> None:
    assert (choose("fp32"), choose("bf16")) == ("32-true", "bf16-mixed")
    with pytest.raises(ConfigError, match="'fp8'"):
        choose("fp8")


def test_csv_and_tensorboard_are_always_there(tmp_path: Path) -> None:
    assert [type(logger) for logger in Loggers().build(tmp_path)] == [CSVLogger, TensorBoardLogger]


def test_a_missing_mlflow_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrank.training.loggers.find_spec", lambda name: None)  # nothing is installed
    with pytest.raises(ConfigError, match=r"mlflow, sqlalchemy, alembic not installed.*retrank\[mlflow\]"):
        Loggers(mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db").build(tmp_path)
