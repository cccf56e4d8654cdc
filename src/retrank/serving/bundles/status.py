"""What a replica says of itself in every heartbeat."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

MAX_ERROR = 500
_STATM = Path("/proc/self/statm")


class Trouble(NamedTuple):
    """What went wrong with a bundle, and when, in seconds since 1970."""

    said: str
    at: float

    @classmethod
    def of(cls, reason: str, at: float) -> "Trouble":
        """Keep as much of a reason as a heartbeat has room for."""
        return cls(reason[:MAX_ERROR], at)


class Memory(BaseModel):
    """Bytes of a process: all that is resident, and the part no file backs, which no other process shares."""

    model_config = ConfigDict(frozen=True)

    resident: int
    private: int


class BundleFigures(BaseModel):
    """How a bundle answers in one replica: newest answers counted, shares 0..1, p95 of the time to answer."""

    model_config = ConfigDict(frozen=True)

    answers: int
    failed: float
    empty: float
    p95_ms: float


class ReplicaStatus(BaseModel):
    """One replica.

    Attributes:
        active, canary: what answers here.
        generation: of the desired state that is carried out here; lower than the document's while moving.
        resident: bundles in memory.
        loading: the bundle being loaded.
        verified: staged bundles that lie here, every byte checked.
        errors: what went wrong last, by bundle; gone when the same went well, or the fleet went on to something else.
        errors_at: when that was, by bundle, seconds since 1970.
        figures: by bundle that answered.
        left_alone: by bundle that answers, its models that failed too often; the others are not named.
        new_items: items that the active bundle does not know, by what became of them; see `NewItemCounts`.
        memory: of the process.
    """

    model_config = ConfigDict(frozen=True)

    active: str
    canary: str | None = None
    generation: int
    resident: tuple[str, ...] = ()
    loading: str | None = None
    verified: tuple[str, ...] = ()
    errors: Mapping[str, str] = Field(default_factory=dict)
    errors_at: Mapping[str, float] = Field(default_factory=dict)
    figures: Mapping[str, BundleFigures] = Field(default_factory=dict)
    left_alone: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    new_items: Mapping[str, int] = Field(default_factory=dict)
    memory: Memory


def memory_now() -> Memory:
    """Measure this process; one small read, no walk over its pages."""
    _, resident, shared, *_ = (int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in _STATM.read_text().split())
    return Memory(resident=resident, private=resident - shared)
