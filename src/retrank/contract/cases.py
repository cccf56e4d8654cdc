"""Evaluation cases: what was known about a user at one moment, and what that user did next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences


@dataclass(frozen=True, slots=True)
class Cases:
    """B evaluation cases.

    Attributes:
        users: `[B]` int64 0-based user positions in the store (user row - 1).
        inputs: B histories known before the target, oldest event first; may be empty for a cold user.
        targets: B sets of item rows to be found, each distinct, each with at least one item.
    """

    users: NDArray[np.int64]
    inputs: Sequences
    targets: Sequences

    def __post_init__(self) -> None:
        """Refuse columns that do not fit together.

        Raises:
            DataError: the three parts disagree on the number of cases.
        """
        if not len(self.users) == len(self.inputs) == len(self.targets):
            raise DataError(
                f"{len(self.users)} users, {len(self.inputs)} inputs, {len(self.targets)} targets; all must agree"
            )

    def __len__(self) -> int:
        """Return the number of cases B."""
        return len(self.users)

    def take(self, cases: NDArray[np.integer]) -> "Cases":
        """Return the cases at the given positions, in that order."""
        return Cases(self.users[cases], self.inputs.take(cases), self.targets.take(cases))
