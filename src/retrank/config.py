"""Find, compose and instantiate the Hydra configuration; every error names the file and the key.

`_target_` decides the class, so a class signature is the schema: an unknown or missing key fails before work starts.
"""

import difflib
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from retrank.contract.errors import ConfigError, RetrankError

_PACKAGED = Path(__file__).parent / "_configs"
_CHECKOUT = Path(__file__).parents[2] / "configs"
_TARGET = "_target_"
_READ_BY_MODELS = ("serving", "state", "paths")
"""Groups whose keys are known to who reads them (pydantic), or free."""


def configs_dir() -> Path:
    """Return the folder of configuration files: the packaged one if present, else the checkout's."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def compose(root: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose `configs/<root>.yaml` with command-line overrides.

    Raises:
        ConfigError: an unknown key, group or choice, or a value that does not parse.
    """
    try:
        config = _composed(root, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        said = _choice(error) or f"{_first(error)}{_advice(root, overrides, error)}"
        raise ConfigError(f"configs/{root}.yaml with {' '.join(overrides) or 'no overrides'}: {said}") from error
    check_known(root, config)
    return config


def check_known(root: str, config: DictConfig) -> None:
    """Refuse a key that nothing reads: one that `+key=value` or an experiment brought in beside those of the root.

    What a class builds or a settings model reads is left to it, as it knows its own keys.

    Raises:
        ConfigError: there is such a key.
    """
    found = _plain(config)
    unknown = next(_unknown(found, _settings(root)), None)
    if unknown is not None:
        known = _keys(_settings(root) | {key: value for key, value in found.items() if key != unknown})
        raise ConfigError(f"configs/{root}.yaml has no setting {unknown}{_meant(unknown, known, root)}")


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
    kept = [line for line in lines if not line.startswith(("object_type=", "reference_type=", "To append"))]
    return "; ".join(line.removesuffix(".") for line in kept)


def _advice(root: str, overrides: Sequence[str], error: Exception) -> str:
    """Return what helps with the mistakes people make at the shell: a mistyped key, quotes that the shell took away."""
    if type(error).__name__ == "OverrideParseException":
        return "; quote twice what is not a plain word: 'data.delimiter=\";\"'"
    unknown = re.search(r"Could not override '([\w.@/-]+)'", str(error))
    if not unknown:
        return ""
    name, settings = unknown[1], _beside(root, overrides, unknown[1])
    if _at(settings, name.rpartition(".")[0]) == {}:  # a mapping that the reader fills
        return f"; add an entry with a plus sign: +{name}=..."
    return _meant(name, _keys(settings), root)


def _choice(error: Exception) -> str:
    """Return what to say of a group that has no such choice; "" for other errors."""
    named = re.search(r"Could not find '(.+)/([^/']+)'", str(error))
    if not named:
        return ""
    _, _, listed = str(error).partition("Available options in ")
    options = re.findall(r"^\t(\S+)$", listed.partition("Config search path")[0], re.MULTILINE)
    known = f"expected one of {', '.join(options)}" if options else "there is no such group"
    return f"{named[1]}={named[2]}: {known}{_close(named[2], options)}"


def _beside(root: str, overrides: Sequence[str], unknown: str) -> dict[str, Any]:
    """Return the settings that there are with the other overrides, which may have chosen the group of the unknown."""
    others = [override for override in overrides if override.partition("=")[0].lstrip("+~") != unknown]
    try:
        return _settings(root) | _plain(_composed(root, others))
    except (HydraException, OmegaConfBaseException):  # they have mistakes of their own
        return _settings(root)


def _at(settings: Any, name: str) -> Any:
    """Return the value of a dotted setting; None where there is none."""
    for part in name.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def _meant(unknown: str, known: Sequence[str], root: str) -> str:
    return f"{_close(unknown, known)}; `retrank {root} --help` lists the keys"


def _close(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, [name for name in known if name != word], n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _composed(root: str, overrides: Sequence[str]) -> DictConfig:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_dir())):
        return hydra.compose(root, overrides=list(overrides))


@cache
def _settings(root: str) -> dict[str, Any]:
    """Return the settings of a root as its files have them, groups that are empty unless they are chosen among them."""
    return dict.fromkeys(_groups(root)) | _plain(_composed(root, ()))


def _groups(root: str) -> Iterator[str]:
    """Return where the groups of a root are put, those of the roots it builds on included."""
    for entry in _plain(cast("DictConfig", OmegaConf.load(configs_dir() / f"{root}.yaml")))["defaults"]:
        if isinstance(entry, dict):
            yield from (name.rpartition("@")[2] for name in entry)
        elif entry != "_self_":
            yield from _groups(entry)


def _plain(config: DictConfig) -> dict[str, Any]:
    """Return the settings with interpolations left as they are written."""
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))


def _unknown(node: dict[str, Any], known: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Return the dotted names of settings that are not known, where nobody else looks."""
    for key, value in node.items():
        if key not in known:
            yield f"{prefix}{key}"
        elif key not in _READ_BY_MODELS and _is_plain(known[key]) and _is_plain(value):
            yield from _unknown(value, known[key], f"{prefix}{key}.")


def _is_plain(node: Any) -> bool:
    """Tell whether a node is a mapping that no class is built from, and that is not left to the reader to fill."""
    return isinstance(node, dict) and bool(node) and _TARGET not in node


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings."""
    if not isinstance(node, dict):
        return []
    names = [f"{prefix}{key}" for key in node]
    return names + [name for key, value in node.items() for name in _keys(value, f"{prefix}{key}.")]
