"""What is looked at before anything is started, so that a mistake is one message and not the end of a replica.

A dependency that is away is none: a service starts without its Redis or its broker, says so, and follows when they are
back. A folder of this machine that nobody can write to does not come back.
"""

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from retrank.contract.errors import ConfigError
from retrank.serving.backing import KEY_FILE
from retrank.serving.events.folders import STREAMS
from retrank.serving.guard.keys import read_key_file
from retrank.serving.port_holders import end_left_behind, holders
from retrank.serving.settings import Settings, refuse_to_open
from retrank.serving.stores.open_store import sqlite_path
from retrank.serving.tokens import load_key

_END_S = 5.0
Say = Callable[[str], None]


def look_around(settings: Settings, say: Say) -> None:
    """Refuse keys and ports that cannot be used.

    Args:
        settings: of the service.
        say: is told of a HAProxy that was left behind on a port and is ended.

    Raises:
        ConfigError: a port is taken, a key file cannot be used, or nobody would be asked for a key.
    """
    refuse_to_open(settings)
    if settings.guard.auth.key_file is not None:
        read_key_file(settings.guard.auth.key_file)
    for where, host, port in _listens(settings):
        _refuse_taken(where, host, port, say)


def refuse_unwritable(settings: Settings) -> None:
    """Make the folders that are missing, and refuse those, and a SQLite file, that this user cannot write to.

    Not before the bundle is known to be one: the folder lies beside it.

    Raises:
        ConfigError: naming the setting, the path and what the system says.
    """
    _refuse_folder("service.folder", settings.folder, make=True)
    logs = settings.event_logs().directory
    if logs is not None:
        for folder in (logs, *(logs / stream for stream in STREAMS)):
            _refuse_folder("events.directory", folder, make=folder == logs)
    state = sqlite_path(settings.state_store())
    if state is not None:
        _refuse_folder("state.url", state.parent, make=False)
        if not state.parent.exists():
            raise _unusable("state.url", state.parent, os.strerror(errno.ENOENT))
        if state.exists() and not (state.is_file() and os.access(state, os.R_OK | os.W_OK)):
            raise _unusable("state.url", state, "no file that this user may write to")
    load_key(settings.folder / KEY_FILE, os.environ)


def _refuse_folder(setting: str, folder: Path, *, make: bool) -> None:
    """Write a file into a folder that has no name there; one that is missing, and is not to be made, passes."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not folder.exists():
            return
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unusable(setting, folder, error.strerror or str(error)) from error


def _unusable(setting: str, path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"serving.{setting}: cannot write to {path} ({what}); make it writable for this user, or name another place"
    )


def _listens(settings: Settings) -> Iterator[tuple[str, str, int]]:
    yield "serving", settings.host, settings.port
    if settings.rpc.enabled:  # replicas share the port with each other, and would with a stranger
        yield "serving.rpc", settings.rpc.host, settings.rpc.port
    if settings.admin.enabled:
        yield "serving.admin", settings.admin.host, settings.admin.port


def _refuse_taken(where: str, host: str, port: int, say: Say) -> None:
    """Refuse a port that somebody listens on, unless that is what a service left there which was killed."""
    error = _taken(host, port)
    if error is not None and error.errno == errno.EADDRINUSE:
        for ended in end_left_behind(port, within_s=_END_S):
            say(f"port {port} was held by the HAProxy of a service that was killed; ended {ended}")
        error = _taken(host, port)
    if error is None:
        return
    held = holders(port) if error.errno == errno.EADDRINUSE else []
    by = f", by {' and '.join(map(str, held))}" if held else ""
    raise ConfigError(
        f"cannot listen on {host}:{port} ({error.strerror}{by}); stop what is running there or "
        f"choose another {where}.port, and name an interface of this machine as {where}.host"
    ) from error


def _taken(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
