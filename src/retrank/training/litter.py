"""A run that is refused before its first step leaves nothing behind."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREPARED = {"config.yaml", "item_encoding.json"}
"""What stands in a run folder before the first step."""


@contextmanager
def no_litter(run_dir: Path) -> Iterator[None]:
    """Remove a run folder that was made in the block and holds nothing but settings, when an error ends the block.

    Folders that were made on the way to it go too, as long as they are empty. A run that has begun to learn keeps its
    logs: they say how it went wrong.
    """
    new = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if new and run_dir.is_dir() and _is_litter(run_dir):
            shutil.rmtree(run_dir)
            for folder in new[1:]:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        raise


def _is_litter(run_dir: Path) -> bool:
    return all(path.is_dir() or path.name in _PREPARED for path in run_dir.rglob("*"))
