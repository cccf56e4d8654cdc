"""`retrank compare RUN RUN`: is the second run better than the first, or is it noise?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrank.contract.errors import ConfigError, DataError, SourceError
from retrank.metrics.bootstrap import PairedDifference, paired_bootstrap
from retrank.metrics.case_ranks import SavedRanks
from retrank.training import figures
from retrank.training.report import METRIC, RANKS, metric_label, render
from retrank.training.same_question import how_to_share_a_split, how_to_share_a_store

PAGE = "compare.html"
_SAME = "evaluate both on the same store and split"
_METRICS = tuple(f"{family}@{k}" for k in (10, 50, 200) for family in ("ndcg", "hr", "recall", "mrr"))


def main(arguments: Sequence[str]) -> None:
    """Print the comparison of two runs and write `compare.html` into the folder of the second.

    Raises:
        ConfigError: not exactly two different runs are named.
        DataError: the runs were not evaluated on the same cases.
        SourceError: a run is not there, or has no readable ranks.
    """
    if len(arguments) != 2 or Path(arguments[0]).resolve() == Path(arguments[1]).resolve():
        raise ConfigError(
            f"usage: retrank compare RUN RUN, two different run folders; got {' '.join(arguments) or 'none'}"
        )
    first, second = (Path(argument) for argument in arguments)
    for run in (first, second):
        if not run.is_dir():
            raise SourceError(f"{run}: no such folder; expected one that `retrank train` or `retrank evaluate` wrote")
    before, after = SavedRanks.load(first / RANKS), SavedRanks.load(second / RANKS)
    check_comparable(before, after, names=(str(first), str(second)))
    differences = compare(before, after)
    print(as_text(differences, names=(str(first), str(second))))
    page = second / PAGE
    page.write_text(_page(before, after, differences, names=(str(first), str(second))), encoding="utf-8")
    print(f"\n{page}")


def check_comparable(first: SavedRanks, second: SavedRanks, *, names: tuple[str, str]) -> None:
    """Refuse two runs whose numbers do not belong in one table.

    Raises:
        DataError: data, protocol, catalogue or cases differ; the message says which.
    """
    facts = {
        "data hash": (first.data_hash, second.data_hash),
        "protocol": (first.protocol, second.protocol),
        "number of items": (first.ranks.num_items, second.ranks.num_items),
        "number of cases": (len(first.ranks), len(second.ranks)),
    }
    folders = Path(names[0]), Path(names[1])
    for what, (one, other) in facts.items():
        if one != other:
            how = how_to_share_a_store(*folders) if what == "data hash" else how_to_share_a_split(*folders)
            raise DataError(
                f"{names[0]} and {names[1]} cannot be compared: {what} is {one!r} and {other!r}; {how or _SAME}"
            )
    for column in ("users", "offsets", "targets"):
        if not np.array_equal(getattr(first.ranks, column), getattr(second.ranks, column)):
            raise DataError(
                f"{names[0]} and {names[1]} cannot be compared: the {column} of their test cases differ; "
                f"{how_to_share_a_split(*folders) or _SAME}"
            )


def compare(first: SavedRanks, second: SavedRanks) -> dict[str, PairedDifference]:
    """Return the paired difference second - first of every metric; Recall only where it differs from HR."""
    one, other = first.ranks.per_case((10, 50, 200)), second.ranks.per_case((10, 50, 200))
    single = len(first.ranks.targets) == len(first.ranks)
    return {
        name: paired_bootstrap(one[name], other[name], first.ranks.users)
        for name in _METRICS
        if not (single and name.startswith("recall"))
    }


def as_text(differences: dict[str, PairedDifference], *, names: tuple[str, str]) -> str:
    """Lay the comparison out as lines of text."""
    lines = [f"A = {names[0]}", f"B = {names[1]}", ""]
    lines.append(f"{'metric':<12}{'A':>9}{'B':>9}{'B - A':>10}   {'95 % interval':<20}{'p':>6}")
    for name, row in differences.items():
        interval = f"{row.low:+.4f} .. {row.high:+.4f}"
        verdict = "better" if row.low > 0 else "worse" if row.high < 0 else ""
        lines.append(
            f"{metric_label(name):<12}{row.first:>9.4f}{row.second:>9.4f}{row.difference:>+10.4f}   "
            f"{interval:<20}{row.p_value:>6.3f}  {verdict}".rstrip()
        )
    return "\n".join(lines)


def _page(
    first: SavedRanks, second: SavedRanks, differences: dict[str, PairedDifference], *, names: tuple[str, str]
) -> str:
    ranks = {"A": first.ranks, "B": second.ranks}
    per_case = {name: case_ranks.per_case((10,))[METRIC] for name, case_ranks in ranks.items()}
    return render(
        "compare.html",
        title="Two runs compared",
        first=names[0],
        second=names[1],
        protocol=first.protocol,
        data_hash=first.data_hash,
        num_cases=len(first.ranks),
        num_items=first.ranks.num_items,
        differences=differences,
        scoreboard=figures.scoreboard(per_case, "B", METRIC),
        curves=figures.hit_rate_curves(ranks, "B"),
    )
