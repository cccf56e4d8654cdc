"""What Ray says in the process that starts a service: as log lines, and where its own logs are.

Ray prints what its node manager reports (a worker died, memory runs short) to standard output, in colour. A service
whose output is read by machines passes it on as lines of its log, at the level of a warning.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HOOK = "print_to_stdstream"
_NEWEST = Path("/tmp/ray/session_latest/logs")
_log = logging.getLogger("retrank.ray")


def retell() -> None:
    """Have what Ray would print logged instead, from now on; call it before Ray starts."""
    from ray._private import worker  # noqa: PLC0415  (reads the environment when it is imported)

    if not hasattr(worker, _HOOK):
        _log.warning("this version of Ray prints its messages elsewhere: they are no lines of this log")
        return

    def log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        del ignore_prefix
        lines: Sequence[str] = data.get("lines", ())
        for line in lines:
            _log.warning("%s: %s", data.get("pid", "ray"), line.strip())

    setattr(worker, _HOOK, log)


@contextmanager
def silenced() -> Iterator[None]:
    """Say nothing meanwhile: Ray announces that what it has just been told to end is dead; its own logs keep it."""
    _log.disabled = True
    try:
        yield
    finally:
        _log.disabled = False


def logs_folder() -> Path:
    """Return where the processes of this service write their logs; the newest of any service before Ray runs."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return _NEWEST
    here = ray.get_runtime_context()
    return Path(here.get_temp_dir(), here.get_session_name(), "logs")
