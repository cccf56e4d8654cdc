"""From `data.path` to the files behind it."""

from pathlib import Path

from retrank.contract.errors import SourceError


def files_at(path: str | Path, setting: str = "data.path") -> list[Path]:
    """Return the file itself, or all files below a directory in the order of their names.

    Files and folders whose names start with `.` or `_` are skipped (markers such as `_SUCCESS`).

    Args:
        path: a file or a directory.
        setting: what the path was configured by, for the message.

    Raises:
        SourceError: nothing is there.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise SourceError(f"{root}: no such file or directory; set {setting}")
    found = sorted(
        file
        for file in root.rglob("*")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(root).parts)
    )
    if not found:
        raise SourceError(f"{root}: the directory holds no file; expected at least one")
    return found
