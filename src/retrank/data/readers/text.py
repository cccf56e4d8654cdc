"""Opening text that may be gzipped, and naming the line where it stops being text."""

import gzip
import io
from pathlib import Path
from typing import BinaryIO, cast


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, decompressing it when its name ends in `.gz`."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def open_text(path: Path, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Open a file as text; a byte-order mark is skipped."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig" if encoding == "utf-8" else encoding)


def line_of_invalid_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a message that names the first line of `path` that is not `encoding`."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                raw = line[max(0, error.start - 10) : error.end + 10]
                return (
                    f"{path}:{number}: byte {error.start + 1} of the line is not {encoding} ({raw!r}); "
                    "convert the file or set data.encoding, for example latin-1"
                )
    return f"{path}: not {encoding}; convert the file or set data.encoding"
