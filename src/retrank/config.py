"""Find, compose and instantiate the Hydra configuration; every error names the file and the key.

`_target_` decides the class, so a class signature is the schema: an unknown or missing key fails before work starts.
"""

import difflib
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
            f"configs/{root}.yaml with {' '.join(overrides) or 'no overrides'}: {_first(error)}{_advice(root, error)}"
        ) from error


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values with every interpolation resolved.

    Raises:
        ConfigError: an interpolation leads nowhere or a mandatory value (`???`) is missing.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        missing = re.search(r"full_key: (\S+)", str(error)) if "Missing mandatory value" in str(error) else None
        said = f"{missing[1]} has no value; set {missing[1]}=..." if missing else _first(error)
        raise ConfigError(f"configuration: {said}") from error
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


def accepts(target: str, name: str) -> bool:
    """Tell whether the class at a dotted path has a setting.

    Raises:
        ConfigError: there is no such class.
    """
    try:
        parameters = inspect.signature(hydra.utils.get_object(target)).parameters.values()
    except (ImportError, ValueError, TypeError) as error:
        raise ConfigError(f"{target}: no such class ({_first(error)}); check the dotted path in _target_") from error
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


@contextmanager
def values_of(group: str) -> Iterator[None]:
    """Turn a value of the wrong type, found by the class that a group of settings builds, into a message.

    Raises:
        ConfigError: a `TypeError` came up; the message names the group.
    """
    try:
        yield
    except TypeError as error:
        raise ConfigError(f"{group}: {error}; one of its values has the wrong type") from error


def _first(error: Exception) -> str:
    """Keep the lines that name the key and drop advice meant for Hydra's own developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("object_type=", "reference_type=", "To append")))


def _advice(root: str, error: Exception) -> str:
    """Return what helps with the mistakes people make at the shell: a mistyped key, quotes that the shell took away."""
    if type(error).__name__ == "OverrideParseException":
        return "; quote twice what is not a plain word: 'data.delimiter=\";\"'"
    unknown = re.search(r"Could not override '([\w.@/-]+)'", str(error))
    if not unknown:
        return ""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_dir())):
        known = _keys(OmegaConf.to_container(hydra.compose(root), resolve=False))
    close = difflib.get_close_matches(unknown[1], known, n=3)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{meant} `retrank {root} --help` lists the keys"


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings."""
    if not isinstance(node, dict):
        return []
    names = [f"{prefix}{key}" for key in node]
    return names + [name for key, value in node.items() for name in _keys(value, f"{prefix}{key}.")]
