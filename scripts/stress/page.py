"""What every report of a stress test says first: command, date, machine, load; and its table."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path


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


def publish(lines: Iterable[str], out: Path | None) -> None:
    """Print a page, and write it to a file when one is named."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text)
