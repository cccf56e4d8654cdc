"""Rankers that were trained on a run and are not in its bundle, unless somebody takes them along."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from retrank.training.checkpoint import CONFIG
from retrank.training.ranking.load import SPEC


def rankers_of(run_dir: Path, roots: Iterable[Path]) -> list[Path]:
    """Return the folders of finished runs of `retrank rank` on a run, the newest first.

    Args:
        run_dir: folder of a retriever.
        roots: folders in which, and one level deeper, they are looked for.
    """
    wanted = run_dir.resolve()
    found = {
        spec.parent.resolve(): spec for root in roots for depth in ("*", "*/*") for spec in root.glob(f"{depth}/{SPEC}")
    }
    mine = [spec for folder, spec in found.items() if _retriever(folder) == wanted]
    return [spec.parent for spec in sorted(mine, key=lambda spec: spec.stat().st_mtime, reverse=True)]


def left_out(run_dir: Path, roots: Iterable[Path]) -> str:
    """Return what to say of them; "" where there are none."""
    rankers = rankers_of(run_dir, roots)
    if not rankers:
        return ""
    more = f", the newest of {len(rankers)} on this run," if len(rankers) > 1 else ", trained on this run,"
    return f"ranker {rankers[0]}{more} is left out: retrieval scores rank; ranker={rankers[0]} takes it along"


def _retriever(folder: Path) -> Path | None:
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Path(config["run"]).resolve()
    except (OSError, yaml.YAMLError, KeyError, TypeError):  # somebody else's folder
        return None
