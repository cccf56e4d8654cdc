"""Number format of a run: bf16 only where the hardware multiplies it natively; emulated bf16 is many times slower."""

from pathlib import Path
from typing import Literal

import torch

from retrank.contract.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed"]
_CHOICES: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed"}
_NATIVE_FLAGS = {"avx512_bf16", "amx_bf16"}


def choose(setting: str, cpu_info: Path = Path("/proc/cpuinfo")) -> Precision:
    """Turn `auto`, `fp32` or `bf16` into Lightning's name.

    Args:
        setting: `auto` takes bf16 where GPU or CPU computes it natively, else fp32.
        cpu_info: text that lists the flags of the CPU.

    Raises:
        ConfigError: another setting.
    """
    if setting in _CHOICES:
        return _CHOICES[setting]
    if setting != "auto":
        raise ConfigError(f"trainer.precision is {setting!r}; expected auto, fp32 or bf16")
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    flags = set(cpu_info.read_text().split()) if cpu_info.is_file() else set()
    return "bf16-mixed" if flags & _NATIVE_FLAGS else "32-true"
