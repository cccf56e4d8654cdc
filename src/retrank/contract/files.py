"""Immutable, content-addressed directories behind a pointer that is changed by one atomic rename.

    root/
    ├── current            text: the name of the active version
    ├── 3f9c…/             a version, complete from the moment it is visible
    └── .staging-…/        being written; removed when the writer fails

Used for stores and bundles, so that a killed writer leaves either the old version or the new one, never a mixture.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrank.contract.errors import SourceError
from retrank.contract.rest import Rest, no_rest

POINTER = "current"
_BLOCK_BYTES = 1 << 20


def sha256_of(path: Path, rest: Rest = no_rest) -> str:
    """SHA-256 of a file's bytes as lower-case hex; `rest` is called after every block, of a millisecond's work."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
            rest()
    return digest.hexdigest()


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Yield an empty directory inside `root`; whatever is left of it at the end is removed."""
    root.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish(staged: Path, root: Path, name: str) -> Path:
    """Make a staged directory visible as `root/name` and point `current` at it.

    An equal version that is already there is kept and merely pointed at.
    """
    target = place(staged, root, name)
    point_at(root, name)
    return target


def place(staged: Path, root: Path, name: str) -> Path:
    """Make a staged directory visible as `root/name`, whole from the moment it is; one already there is kept."""
    target = root / name
    if not target.exists():
        for path in sorted(staged.rglob("*")):
            if path.is_file():
                _sync(path)
        staged.chmod(0o755)
        staged.rename(target)
        _sync(root)
    return target


def point_at(root: Path, name: str) -> None:
    """Change the pointer `current` to `name` atomically."""
    handle, temporary = tempfile.mkstemp(prefix=".pointer-", dir=root)
    with os.fdopen(handle, "w") as stream:
        stream.write(name + "\n")
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)  # as readable as what it points at: a container has a user of its own
        os.fsync(stream.fileno())
    Path(temporary).replace(root / POINTER)
    _sync(root)


def current(root: Path) -> Path:
    """Return the directory `current` points at; `root` itself when it has no pointer (a bare version was named).

    Raises:
        SourceError: nothing is there, or the pointer leads nowhere.
    """
    pointer = root / POINTER
    if not pointer.is_file():
        if not root.is_dir():
            raise SourceError(f"{root}: no such directory; expected one that holds {POINTER!r} or a version")
        return root
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    target = root / name
    if name in ("", "..") or Path(name).name != name or not target.is_dir():
        raise SourceError(f"{pointer}: points at {name!r}, which is not a directory beside it")
    return target


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
