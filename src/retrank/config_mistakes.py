"""What people mistype in settings, found in plain values: unknown names, values of another kind. No Hydra here."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

TARGET = "_target_"
_READ_BY_MODELS = ("serving", "state", "paths")
"""Groups whose keys are known to who reads them (pydantic), or free."""
_CHOSEN_LATER = ("from_data", "${")
"""Texts that stand for a value of any kind."""


def unknown_settings(found: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of settings that are not known, where nobody else looks.

    What a class builds or a settings model reads is left to it, as it knows its own keys; an empty mapping is filled by
    people.
    """
    for key, value in found.items():
        if key not in known:
            yield f"{prefix}{key}"
        elif key not in _READ_BY_MODELS and _is_plain(known[key]) and _is_plain(value):
            yield from unknown_settings(value, known[key], f"{prefix}{key}.")


def wrong_kind(name: str, usual: Any, value: Any) -> str:
    """Return what is wrong with the kind of a value, "" if nothing is.

    Args:
        name: dotted name of the setting.
        usual: its value in the files.
        value: the one that was given.
    """
    if value is None or usual is None or (isinstance(value, str) and value.startswith(_CHOSEN_LATER)):
        return ""
    if isinstance(usual, list):
        return "" if isinstance(value, list) else f"{name} is {value!r}; expected a list: '{name}=[{value}]'"
    if isinstance(usual, bool):
        return "" if isinstance(value, bool) else f"{name} is {value!r}; expected true or false"
    if isinstance(usual, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number else f"{name} is {value!r}; expected a number, such as {usual}"
    if name.rpartition(".")[2] == "name" and not isinstance(value, str):
        return f"{name} is {value!r}, a number; expected a text, quoted twice: '{name}=\"{value}\"'"
    return ""


def names_of(node: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings."""
    if not isinstance(node, dict):
        return []
    names = [f"{prefix}{key}" for key in node]
    return names + [name for key, value in node.items() for name in names_of(value, f"{prefix}{key}.")]


def value_at(settings: Any, name: str) -> Any:
    """Return the value of a dotted setting; None where there is none."""
    for part in name.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def meant(word: str, known: Iterable[str]) -> str:
    """Return a question about the names that a word is close to, "" if there are none."""
    close = difflib.get_close_matches(word, [name for name in known if name != word], n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def given_names(overrides: Sequence[str]) -> dict[str, str]:
    """Return override by dotted name, of those that set something."""
    return {override.partition("=")[0].lstrip("+"): override for override in overrides if "=" in override}


def _is_plain(node: Any) -> bool:
    """Tell whether a node is a mapping that no class is built from, and that is not left to the reader to fill."""
    return isinstance(node, dict) and bool(node) and TARGET not in node
