"""Who is calling, what it costs, how long it waited: put into the ASGI scope by the guard, read by handlers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Permission = Literal["read", "ingest", "admin"]
PERMISSIONS: tuple[Permission, ...] = ("read", "ingest", "admin")
_KEY = "retrank.caller"
_CHARGE = "retrank.charge"
_WAITED = "retrank.waited_s"


class Caller(NamedTuple):
    """An authenticated caller.

    Attributes:
        tenant: namespace of everything the caller reads and writes.
        key_id: public part of the API key; None when the service asks for no keys.
        permissions: what the caller may do.
    """

    tenant: str
    key_id: str | None
    permissions: frozenset[Permission]


LOCAL = Caller("default", None, frozenset(PERMISSIONS))
"""Everybody, where no keys are asked for."""


def caller_of(scope: Mapping[str, Any]) -> Caller:
    """Return the caller of a request; `LOCAL` when no guard stands in front."""
    caller = scope.get(_KEY, LOCAL)
    assert isinstance(caller, Caller)
    return caller


def set_caller(scope: Any, caller: Caller) -> None:
    """Remember who is calling, for the handlers further in."""
    scope[_KEY] = caller


def set_charge(scope: Any, charge: Callable[[int], None]) -> None:
    """Remember how to take what a request costs, for handlers that find several requests in it."""
    scope[_CHARGE] = charge


def charge(scope: Mapping[str, Any], parts: int) -> None:
    """Take the quota of a request that holds several; free when no guard stands in front.

    Raises:
        Refusal: there is not so much left; nothing of it may be done.
    """
    take = scope.get(_CHARGE)
    if take is not None:
        take(parts)


def set_waited(scope: Any, seconds: float) -> None:
    """Remember how long a request waited for its turn."""
    scope[_WAITED] = seconds


def waited_s_of(scope: Mapping[str, Any]) -> float:
    """Return how long a request waited for its turn, in seconds."""
    seconds = scope.get(_WAITED, 0.0)
    assert isinstance(seconds, float)
    return seconds


def left_of(scope: Mapping[str, Any], deadline_ms: int) -> int:
    """Return what is left of a deadline after waiting for its turn, in milliseconds, >= 0."""
    return max(deadline_ms - round(waited_s_of(scope) * 1e3), 0)
