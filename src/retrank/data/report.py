"""Counts of rows read, left out by a rule of the dataset, and refused as bad, with first examples."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from retrank.contract.errors import BadRowsError

MAX_EXAMPLES = 5


class RowReport:
    """Running account of an ingest.

    "Left out" rows are understood and unwanted (a cancellation); "bad" rows could not be understood (an unparsable
    time). Only bad rows count towards the threshold.
    """

    def __init__(self) -> None:
        """Start with nothing read."""
        self.rows = 0
        self.filtered: dict[str, int] = {}
        self.matching: dict[str, int] = {}
        self.bad: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    @property
    def num_bad(self) -> int:
        """Rows that could not be understood."""
        return sum(self.bad.values())

    @property
    def accepted(self) -> int:
        """Rows that became events."""
        return self.rows - self.num_bad - sum(self.filtered.values())

    def read(self, rows: int) -> None:
        """Count rows met in the source, good or bad."""
        self.rows += rows

    def leave_out(self, rule: str, count: int, *, matching: int | None = None) -> None:
        """Count rows left out by `rule`.

        Args:
            rule: what the rows have in common.
            count: rows that this rule was the first to leave out.
            matching: rows it applies to at all, those that an earlier rule left out included; `count` if not given.
        """
        self.filtered[rule] = self.filtered.get(rule, 0) + count
        self.matching[rule] = self.matching.get(rule, 0) + (count if matching is None else matching)

    def refuse(self, reason: str, count: int, examples: Iterable[str]) -> None:
        """Count bad rows; of `examples` ("file:line: value") only the first few are looked at and kept."""
        if not count:
            return
        self.bad[reason] = self.bad.get(reason, 0) + count
        kept = self.examples.setdefault(reason, [])
        kept.extend(islice(examples, MAX_EXAMPLES - len(kept)))

    def check(self, max_bad_share: float) -> None:
        """Stop when too many rows are bad.

        Raises:
            BadRowsError: the share of bad rows is above `max_bad_share` (0..1).
        """
        if self.num_bad <= max_bad_share * self.rows:
            return
        reasons = "; ".join(
            f"{reason}: {count:,} rows, first {self.examples[reason][0] if self.examples[reason] else 'unknown'}"
            for reason, count in sorted(self.bad.items(), key=lambda pair: -pair[1])
        )
        raise BadRowsError(
            f"{self.num_bad:,} of {self.rows:,} rows ({self.num_bad / self.rows:.2%}) are bad, allowed are "
            f"{max_bad_share:.2%}: {reasons}; mend the source or the column mapping, or raise max_bad_share"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the account for `store.json`."""
        return {
            "rows": self.rows,
            "accepted": self.accepted,
            "filtered": self.filtered,
            "matching": self.matching,
            "bad": self.bad,
            "examples": self.examples,
        }
