"""What Ray says in the process that starts a service: as log lines, why it did not start, and where its own logs are.

Ray prints what its node manager reports (a worker died, memory runs short) to standard output, in colour. A service
whose output is read by machines passes it on as lines of its log, at the level of a warning.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HOOK = "print_to_stdstream"
_NEWEST = Path("/tmp/ray/session_latest/logs")
_RAISED = re.compile(r"^((?:\w+\.)+\w+|\w+Error): ", re.MULTILINE)
_OF_OURS = "retrank."
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


def why_no_replica(application: str, error: Exception) -> str:
    """Return what a replica could not do when Ray says that an application did not start; else what Ray says.

    Ray keeps the traceback of the replica that failed last with the status of its deployment; the error names no more
    than the deployment.
    """
    said = [raised_last(message) for message in _deployments(application) if message]
    return said[0] if said else raised_last(str(error)) or type(error).__name__


def _deployments(application: str) -> list[str]:
    """Return what Ray says of the deployments of an application; nothing when it has not heard of it."""
    if not _ray_runs():  # asking would start it
        return []
    from ray import serve  # noqa: PLC0415  (the same)

    told = serve.status().applications.get(application)
    return [] if told is None else [one.message for one in told.deployments.values()]


def raised_last(traceback: str) -> str:
    """Return the error that a traceback ends with, on one line; the class is not named where it is one of ours."""
    text = traceback.strip()
    raised = [*_RAISED.finditer(text)]
    if raised:
        text = text[raised[-1].end() if raised[-1][1].startswith(_OF_OURS) else raised[-1].start() :]
    return " ".join(text.split())


def logs_folder() -> Path:
    """Return where the processes of this service write their logs; the newest of any service before Ray runs."""
    if not _ray_runs():
        return _NEWEST
    here = sys.modules["ray"].get_runtime_context()
    return Path(here.get_temp_dir(), here.get_session_name(), "logs")


def _ray_runs() -> bool:
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
