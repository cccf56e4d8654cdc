"""Find, compose and instantiate the Hydra configuration; every error names the file and the key.

`_target_` decides the class, so a class signature is the schema: an unknown or missing key fails before work starts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from retrank.contract.errors import ConfigError, RetrankError

_PACKAGED = Path(__file__).parent / "_configs"
_CHECKOUT = Path(__file__).parents[2] / "configs"


def configs_dir() -> Path:
    """Return the folder of configuration files: the packaged one if present, else the checkout's."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def compose(root: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose `configs/<root>.yaml` with command-line overrides.

    Raises:
        ConfigError: an unknown key, group or choice, or a value that does not parse.
    """
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_dir())):
            return hydra.compose(root, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"configs/{root}.yaml with {' '.join(overrides) or 'no overrides'}: {_first(error)}"
        ) from error


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values with every interpolation resolved.

    Raises:
        ConfigError: an interpolation leads nowhere or a mandatory value (`???`) is missing.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"configuration: {_first(error)}") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"configuration must be a mapping, got {type(plain).__name__}")
    return {str(key): value for key, value in plain.items()}


def instantiate(node: Any) -> Any:
    """Build the object a node describes with `_target_` (a partial when `_partial_: true`).

    Raises:
        ConfigError: the class does not exist or refuses an argument; the message names the key.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all")
    except HydraException as error:
        if isinstance(error.__cause__, RetrankError):
            raise error.__cause__ from error
        raise ConfigError(f"configuration: {_first(error)}") from error


def _first(error: Exception) -> str:
    """Keep the lines that name the key and drop advice meant for Hydra's own developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("object_type=", "reference_type=", "To append")))
