"""What every report says first: command, date, machine, load; its table; and what people wrote below it."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

BY_HAND = "<!-- Below: written by hand, and kept when the script writes this page again. -->"


def conditions(script: str, arguments: str) -> str:
    """Return the sentence that says how a report came about."""
    return (
        f"`python scripts/{script} {arguments}`, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}; load average {os.getloadavg()[1]:.1f} over the "
        "last five minutes, this script included: the machine was shared with other work."
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return a Markdown table."""
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def counted(statuses: Mapping[int, int]) -> str:
    """Return how often each status came, in words; 0 is no answer."""
    return ", ".join(f"{count:,} x {int(status) or 'none'}" for status, count in sorted(statuses.items()))


def verdict(reached: bool) -> str:
    """Return the word of a goal's row."""
    return "yes" if reached else "**no**"


def publish(lines: Iterable[str], out: Path | None) -> None:
    """Print a page, and write it to a file when one is named, above what was written there by hand."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text + by_hand(out))


def by_hand(out: Path) -> str:
    """Return what somebody wrote below the marker of an earlier page; nothing where there is no marker."""
    _, marker, below = out.read_text().partition(BY_HAND) if out.exists() else ("", "", "")
    return f"\n{marker}{below}" if marker else ""
