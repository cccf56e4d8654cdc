"""Whether this service is leaving: one file that all its replicas on a host look at.

`retrank serve` writes it on SIGTERM and an operator may through the admin port; replicas only ask whether it is there,
when they are probed. A file needs no connection between the processes and outlives the one that wrote it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER_VARIABLE = "RETRANK_SERVICE_DIR"
"""Names the folder that the replicas of one service on one host share."""
_MARK = "draining"


def service_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder that the replicas of one service on one host share; None where there is none."""
    folder = environment.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


class Drain:
    """The mark of leaving in a service's folder; without a folder, in this object alone."""

    def __init__(self, folder: Path | None) -> None:
        """Look at a folder."""
        self._mark = None if folder is None else folder / _MARK
        self._draining = False

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Drain":
        """Return the mark of the service whose processes run in an environment."""
        return cls(service_folder(environment))

    @property
    def draining(self) -> bool:
        """Tell whether the service is leaving."""
        return self._draining or (self._mark is not None and os.path.exists(self._mark))  # noqa: PTH110  (thrice as fast)

    def begin(self) -> None:
        """Leave: replicas stop being ready and go on answering."""
        self._draining = True
        if self._mark is not None:
            self._mark.touch()

    def end(self) -> None:
        """Stay after all."""
        self._draining = False
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
