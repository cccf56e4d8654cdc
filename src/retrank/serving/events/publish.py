"""Puts new Parquet files in place and removes what they replace; a crash at any point changes nothing.

Everything is first written below `_staging/`. Then one file, `_journal.json`, says what has to happen: which staged
files go where, which files and segments go away, which lines the proof of erasures gets. Its rename is the moment at
which the change is decided. Before it, a crash leaves nothing but staged files, which the next run throws away; after
it, the next run does what the journal says, as often as needed.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from retrank.serving.events.erasures import Proof, add_proofs
from retrank.serving.events.folders import sync_folder, write_whole

_JOURNAL = "_journal.json"
_STAGING = "_staging"


class Change(BaseModel):
    """What one compaction changes.

    Attributes:
        files: staged files, relative to the staging folder and to the root alike.
        emptied: published files that go away, relative to the root.
        segments: segments that go away, relative to the directory of the log.
        proofs: lines for the proof of erasures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: Sequence[str]
    emptied: Sequence[str]
    segments: Sequence[str]
    proofs: Sequence[Proof]


def staging(root: Path) -> Path:
    """Return an empty folder to write new files to."""
    folder = root / _STAGING
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def decide(root: Path, change: Change) -> None:
    """Make the staged files durable and write the journal: from here on the change happens."""
    folders = {root / _STAGING}
    for name in change.files:
        path = root / _STAGING / name
        folders |= {path.parent}
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in folders:
        sync_folder(folder)
    write_whole(root / _JOURNAL, change.model_dump_json().encode())


def finish(root: Path, directory: Path) -> bool:
    """Carry out what a journal says, if there is one, and tell whether there was.

    Args:
        root: of the partitions.
        directory: of the log.
    """
    journal = root / _JOURNAL
    if not journal.exists():
        shutil.rmtree(root / _STAGING, ignore_errors=True)
        return False
    change = Change.model_validate_json(journal.read_bytes())
    touched = set()
    for name in change.files:
        staged, path = root / _STAGING / name, root / name
        if staged.exists():
            path.parent.mkdir(exist_ok=True)
            staged.replace(path)
        touched.add(path.parent)
    for name in change.emptied:
        (root / name).unlink(missing_ok=True)
        touched.add((root / name).parent)
    for folder in [*touched, root]:
        sync_folder(folder)
    add_proofs(directory, change.proofs)
    for name in change.segments:
        (directory / name).unlink(missing_ok=True)
    for folder in {(directory / name).parent for name in change.segments}:
        if folder.is_dir():
            sync_folder(folder)
    journal.unlink()
    sync_folder(root)
    shutil.rmtree(root / _STAGING, ignore_errors=True)
    return True
