"""The admin port: in a thread of `retrank serve`, or alone as `retrank admin`.

It holds no state and needs no Ray: it edits documents in the control store and reads heartbeats there. So `serve run`
and Kubernetes start `retrank admin` beside the service, and it still answers when Ray does not.
"""

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import uvicorn

from retrank.contract.errors import ConfigError
from retrank.serving.backing import open_state
from retrank.serving.bundles.opening import open_operator
from retrank.serving.bundles.operator import Operator
from retrank.serving.guard.keys import read_key_file
from retrank.serving.placements.desk import ShelfDesk, Time
from retrank.serving.settings import Settings, parse_settings, refuse_to_open
from retrank.serving.stores.protocol import DEFAULT_TENANT, StateStore
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.telemetry.logs import announce, json_to_stderr
from retrank.serving.web.admin import create_admin_app
from retrank.serving.web.protection import Protection, guard, open_gate

_STOP_S = 5.0


def run(config: dict[str, Any]) -> None:
    """Serve the admin routes until interrupted.

    Args:
        config: `bundle` and `serving`, as for `retrank serve`.

    Raises:
        ConfigError: a setting is unknown or out of range, a key file cannot be used or is missing, the port is taken,
            or admin is not enabled.
        BundleError: there is no bundle where the settings say; the library lies around it.
    """
    settings = parse_settings({"bundle": config["bundle"], **config["serving"]})
    if not settings.admin.enabled:
        raise ConfigError("serving.admin.enabled is false; there is nothing to serve")
    refuse_to_open(settings)
    as_json = settings.telemetry.log_format == "json"
    if as_json:
        json_to_stderr()
    stop = threading.Event()

    def interrupted(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    with admin_port(settings) as url:
        announce(f"admin on {url}/admin/v1/status   Ctrl-C stops", as_json=as_json)
        stop.wait()
    announce("stopped", as_json=as_json)


@contextmanager
def admin_port(settings: Settings, drain: Callable[[], None] | None = None) -> Iterator[str]:
    """Serve the admin routes from a thread, yield their address, and stop; keys are asked when a key file is named.

    Args:
        settings: of the service.
        drain: lets the service of this host leave; None when this process does not run it.

    Raises:
        ConfigError: the port is taken, or the key file cannot be used.
    """
    gate = open_gate(settings.guard, os.environ, Telemetry())
    store = open_state(settings)
    operator = open_operator(settings, store)
    app = create_admin_app(
        operator,
        overlay=store,
        desk=open_desk(settings, store, operator),
        drain=drain,
        protect=lambda app: guard(app, Protection(gate=gate)),
    )
    listener = _listen(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), name="admin", daemon=True)
    with closing(listener), closing(store):
        thread.start()
        try:
            yield f"http://{settings.admin.host}:{settings.admin.port}"
        finally:
            server.should_exit = True
            thread.join(_STOP_S)


def open_desk(settings: Settings, store: StateStore, operator: Operator) -> ShelfDesk:
    """Return the desk of placements and rules over a store; `operator` knows how many replicas are alive."""
    return ShelfDesk(
        store,
        settings.admin.blast,
        alive=lambda: len(operator.status().replicas),
        new_id=lambda: secrets.token_hex(8),
        time=Time(time.time, time.monotonic, time.sleep),
        tenants=lambda: _tenants(settings),
    )


def _tenants(settings: Settings) -> set[str]:
    """Return the tenants that requests can be of: those of keys, and the one of whoever needs none."""
    key_file = settings.guard.auth.key_file
    keys = () if key_file is None else read_key_file(key_file).keys
    return {DEFAULT_TENANT, *(key.tenant for key in keys)}


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.admin.host, settings.admin.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"admin cannot listen on {settings.admin.host}:{settings.admin.port} ({error.strerror}); choose another "
            "serving.admin.port, or set serving.admin.enabled=false"
        ) from error
    listener.listen()
    return listener
