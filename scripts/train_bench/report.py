"""From results to `training.json` and `training.md`; a later run of one case replaces that case alone."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train_bench.result import Result

_HEAD = """# Training: speed and memory against other libraries

Written by `scripts/bench_train.py`; every section names its command, date and machine, all figures are in
[{json_name}]({json_name}). To measure again, all cases at once or one by one:

```bash
python scripts/bench_train.py --install-peers .peers
python scripts/bench_train.py --out docs/benchmarks/training.md
```

Contestants run in processes of their own interpreters, on the same arrays, and work in turns, so that all see the same
machine minute by minute. "Reached" compares the medians.
"""
_PROVISIONAL = """
**Provisional: the machine did other work while this was measured** (see the load of each section). With more programs
than cores, seconds measure the neighbours as much as the contestants; ratios suffer less, since all work in turns.
"""


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the program."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def keep(result: Result, path: Path, facts: dict[str, Any]) -> None:
    """Put a result into the JSON beside the report."""
    kept = load(path)
    kept[result.case] = result.as_json() | {"date": time.strftime("%Y-%m-%d")} | facts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Return the kept results by case."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return kept


def render(kept: dict[str, Any], json_name: str) -> str:
    """Return the whole report."""
    parts = [_HEAD.format(json_name=json_name)]
    if any(case["provisional"] for case in kept.values()):
        parts.append(_PROVISIONAL)
    goals = [[*goal.values(), case["title"]] for case in kept.values() for goal in case["goals"]]
    if goals:
        cells = [[title, text, measured, "yes" if reached else "**no**"] for text, measured, reached, title in goals]
        parts += ["\n## Goals\n", *_table(["case", "goal", "measured", "reached"], cells)]
    for case in kept.values():
        parts += _section(case)
    return "\n".join(parts).rstrip() + "\n"


def _section(case: dict[str, Any]) -> list[str]:
    facts = case["machine"]
    peers = "; ".join(
        f"{peer}: " + " ".join(f"{name} {number}" for name, number in found.items())
        for peer, found in case["versions"].items()
    )
    where = (
        f"`{case['command']}` on {case['date']}: {facts['cpu']}, {facts['cores']} cores, load {facts['load']} at the "
        f"start, Python {facts['python']}, torch {facts['torch']}, numpy "
        f"{facts['numpy']}{'; ' + peers if peers else ''}."
    )
    return [
        f"\n## {case['title']}\n",
        where,
        "",
        *[f"{text}\n" for text in case["about"]],
        *_table(case["columns"], case["rows"]),
    ]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
