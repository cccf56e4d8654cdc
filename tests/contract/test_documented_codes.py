"""The tables of the serving page name every reason and every code that a program may meet, and none that it cannot."""

import re
from pathlib import Path
from typing import get_args

import pytest

from retrank.contract.api import DegradedReason
from retrank.contract.problem_codes import ProblemCode

PAGE = (Path(__file__).parents[2] / "serving" / "README.md").read_text()


def _named(header: str, column: int) -> list[str]:
    """Return the words in backticks of one column of the table with that header, 0 = the first."""
    table = PAGE.split(header + "\n")[1].split("\n\n")[0]
    return [word for line in table.splitlines()[1:] for word in re.findall(r"`(\w+)`", line.split("|")[column + 1])]


@pytest.mark.parametrize(
    ("header", "column", "kinds"),
    [("| reason | what it means |", 0, DegradedReason), ("| status | `code` | when |", 1, ProblemCode)],
    ids=["reasons", "codes"],
)
def test_a_table_names_what_there_is(header: str, column: int, kinds: object) -> None:
    assert sorted(_named(header, column)) == sorted(get_args(kinds))
