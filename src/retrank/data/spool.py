"""Columns of events appended batch by batch to plain files: memory holds one column at a time, not the table."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import SourceError


class Spool:
    """Write-then-read store of `[E]` columns in source order. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        """Keep the columns in `directory`, which must exist and be empty."""
        self._directory = directory
        self._streams: dict[str, BinaryIO] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._stack = ExitStack()
        self.num_events = 0

    def __enter__(self) -> "Spool":
        """Start writing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files; removing them is up to the owner of the directory."""
        self._stack.close()

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the order of the first batch."""
        return list(self._dtypes)

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append one batch.

        Raises:
            SourceError: names or types differ from those of the first batch.
            OSError: the disk is full.
        """
        dtypes = {name: column.dtype for name, column in columns.items()}
        if not self._dtypes:
            self._dtypes = dtypes
            for name in dtypes:
                self._streams[name] = self._stack.enter_context(self._path(name).open("wb"))
        if dtypes != self._dtypes:
            raise SourceError(
                f"columns change from one file to the next: {_types(self._dtypes)} at first, then {_types(dtypes)}; "
                "give all files the same columns and types"
            )
        for name, column in columns.items():
            self._streams[name].write(np.ascontiguousarray(column).view(np.uint8).data)
        self.num_events += len(next(iter(columns.values())))

    def take(self, name: str) -> NDArray[Any]:
        """Return the whole column `[E]` and remove its file; no batch can be appended afterwards."""
        self._stack.close()
        column: NDArray[Any] = np.fromfile(self._path(name), dtype=self._dtypes[name])
        self._path(name).unlink()
        return column

    def _path(self, name: str) -> Path:
        return self._directory / f"{list(self._dtypes).index(name)}.column"


def _types(dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in dtypes.items()}
