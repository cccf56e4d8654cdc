"""Replicas load one after the other and swap together: who is not ready yet says so by what its heartbeat lacks."""

from collections.abc import Sequence

from pydantic import ValidationError

from retrank.serving.bundles.status import ReplicaStatus
from retrank.serving.stores.protocol import Control


def not_ready(control: Control, names: Sequence[str], now: float, *, besides: str) -> list[str]:
    """Return the live replicas that do not hold all of some bundles in memory, and have not said why they cannot.

    Args:
        control: holds the heartbeats.
        names: the bundles.
        now: seconds since 1970.
        besides: the replica that asks; it knows better itself.

    Raises:
        StoreUnavailable: the control store does not answer.
    """
    return [who for who, said in control.beats(now).items() if who != besides and _lacks(said, names)]


def _lacks(said: object, names: Sequence[str]) -> bool:
    try:
        status = ReplicaStatus.model_validate(said)
    except ValidationError:  # of another version, which may not wait for us either
        return False
    return any(name not in status.resident and name not in status.errors for name in names)
