"""Bars are for people who look: on a terminal, where they are wanted, and never in a file."""

import io

import pytest
from tqdm import tqdm

from retrank.data.progress import hidden


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("wanted", "out", "drawn"), [(True, Terminal(), True), (False, Terminal(), False)])
def test_a_terminal_shows_a_bar_where_one_is_wanted(wanted: bool, out: Terminal, drawn: bool) -> None:
    list(tqdm(range(3), file=out, disable=hidden(wanted)))
    assert bool(out.getvalue()) is drawn


@pytest.mark.parametrize("wanted", [True, False])
def test_a_file_never_does(wanted: bool) -> None:
    list(tqdm(range(3), file=(out := io.StringIO()), disable=hidden(wanted)))
    assert out.getvalue() == ""
