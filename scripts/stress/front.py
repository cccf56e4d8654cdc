"""What HAProxy knows of the replicas behind it, read from its own statistics page."""

import csv
import io
import re
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from serve_bench import family

_STATS = re.compile(r"listen stats\s+bind [^\n]*?:(\d+)\s+stats enable\s+stats uri (\S+)")


class Server(NamedTuple):
    """One replica as HAProxy sees it; the counts start at zero whenever HAProxy reloads."""

    name: str
    is_up: bool
    good: int


def servers(root_pid: int) -> list[Server]:
    """Return the replicas behind the newest HAProxy of a service; none while it cannot be asked."""
    for config in _configs(root_pid):
        with suppress(OSError):
            return _asked(config.read_text())
    return []


def _configs(root_pid: int) -> list[Path]:
    lines = [line for line in family.descendants(root_pid).values() if "/haproxy -db" in line]
    return [Path(words[words.index("-f") + 1]) for words in map(str.split, reversed(lines)) if "-f" in words]


def _asked(config: str) -> list[Server]:
    found = _STATS.search(config)
    if found is None:
        return []
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}{found[2]};csv", timeout=2) as answer:
        text = answer.read().decode().removeprefix("# ")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["svname"] not in ("FRONTEND", "BACKEND")]
    return [
        Server(row["svname"], row["status"].startswith("UP"), int(row["hrsp_2xx"] or 0))
        for row in rows
        if row["bck"] == "0" and row["act"] == "1"
    ]
