"""What a case hands over: a table, what was aimed at and reached, and everything measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Goal:
    """One aim, such as ">= 4x RecTools per epoch", the value that was measured, and whether that is enough."""

    text: str
    measured: str
    reached: bool


@dataclass(frozen=True)
class Result:
    """The outcome of a case.

    Attributes:
        case: name on the command line.
        title: heading of the section.
        about: sentences on what was measured and how.
        columns: head of the table.
        rows: cells, already formatted.
        goals: aims and what came of them.
        measured: raw figures, as JSON can hold them.
    """

    case: str
    title: str
    about: list[str]
    columns: list[str]
    rows: list[list[str]]
    goals: list[Goal] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON can hold it."""
        return asdict(self)


def at_least(text: str, value: float, bound: float, unit: str = "x") -> Goal:
    """Aim at a value that is not smaller than the bound."""
    return Goal(text, f"{value:.2f}{unit}", value >= bound)


def at_most(text: str, value: float, bound: float, unit: str = "") -> Goal:
    """Aim at a value that is not greater than the bound."""
    return Goal(text, f"{value:.2f}{unit}", value <= bound)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(values))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write median and range as `20.1 (19.8-23.0)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
