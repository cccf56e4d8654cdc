"""Find, compose and instantiate the Hydra configuration; every error names the file and the key.

`_target_` decides the class, so a class signature is the schema: an unknown or missing key fails before work starts.
"""

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from retrank.config_mistakes import TARGET, given_names, meant, names_of, unknown_settings, value_at, wrong_kind
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
        config = _composed(root, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        said = _choice(error) or f"{_first(error)}{_advice(root, overrides, error)}"
        raise ConfigError(f"configs/{root}.yaml with {' '.join(overrides) or 'no overrides'}: {said}") from error
    check_known(root, config)
    _check_kinds(root, overrides, _plain(config))
    return config


def check_known(root: str, config: DictConfig) -> None:
    """Refuse a key that nothing reads: one that `+key=value` or an experiment brought in beside those of the root.

    What a class builds or a settings model reads is left to it, as it knows its own keys.

    Raises:
        ConfigError: there is such a key.
    """
    found = _plain(config)
    unknown = next(unknown_settings(found, _settings(root)), None)
    if unknown is not None:
        known = names_of(_settings(root) | {key: value for key, value in found.items() if key != unknown})
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
        if isinstance(error.__cause__, TypeError) and "unexpected keyword" not in str(error.__cause__):
            kind = str(node.get(TARGET)).rpartition(".")[2]
            raise ConfigError(f"{kind}: {error.__cause__}; one of its values has the wrong type") from error
        raise ConfigError(f"configuration: {_first(error)}") from error


def check_described(name: str, node: Any, example: str) -> None:
    """Refuse a setting that is to describe an object and does not.

    Raises:
        ConfigError: the node has no `_target_`.
    """
    if not isinstance(node, dict) or TARGET not in node:
        raise ConfigError(f"{name} is {node!r}; expected null, or a class with its settings: {example}")


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
    name, settings = unknown[1], _beside(root, overrides, [unknown[1]])
    group, _, _ = name.partition(".")
    if value_at(settings, name.rpartition(".")[0]) == {}:  # a mapping that the reader fills
        return f"; add an entry with a plus sign: +{name}=..."
    if settings.get(group, "") is None and (choices := _choices(group)):
        return f"; {group} is empty, choose first: {' or '.join(f'{group}={choice}' for choice in choices)}"
    return _meant(name, names_of(settings), root)


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (configs_dir() / group).glob("*.yaml"))


def _check_kinds(root: str, overrides: Sequence[str], config: dict[str, Any]) -> None:
    """Refuse a value that is of another kind than that of the files: a word for a number, one value for a list.

    Raises:
        ConfigError: naming the setting.
    """
    given = {name: value for name in given_names(overrides) if not isinstance(value := value_at(config, name), dict)}
    if not given:
        return
    usual = _beside(root, overrides, list(given))
    for name, value in given.items():
        if wrong := wrong_kind(name, value_at(usual, name), value):
            raise ConfigError(wrong)


def _choice(error: Exception) -> str:
    """Return what to say of a group that has no such choice; "" for other errors."""
    named = re.search(r"Could not find '(.+)/([^/']+)'", str(error))
    if not named:
        return ""
    _, _, listed = str(error).partition("Available options in ")
    options = re.findall(r"^\t(\S+)$", listed.partition("Config search path")[0], re.MULTILINE)
    known = f"expected one of {', '.join(options)}" if options else "there is no such group"
    return f"{named[1]}={named[2]}: {known}{meant(named[2], options)}"


def _beside(root: str, overrides: Sequence[str], names: Collection[str]) -> dict[str, Any]:
    """Return the settings that there are without some overrides; the others may have chosen the groups of these."""
    others = [override for override in overrides if override.partition("=")[0].lstrip("+~") not in names]
    try:
        return _settings(root) | _plain(_composed(root, others))
    except (HydraException, OmegaConfBaseException):  # they have mistakes of their own
        return _settings(root)


def _meant(unknown: str, known: Sequence[str], root: str) -> str:
    return f"{meant(unknown, known)}; `retrank {root} --help` lists the keys"


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
