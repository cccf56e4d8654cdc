"""`retrank serve`: start Ray Serve on this machine, wait until it answers, and stop cleanly on Ctrl-C or SIGTERM."""

import http.client
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from retrank.contract.api import BundleInfo
from retrank.contract.errors import ConfigError, RetrankError
from retrank.serving import ingress
from retrank.serving.admin import admin_port
from retrank.serving.bundles.opening import begin
from retrank.serving.recommender import Recommender
from retrank.serving.settings import Settings, parse_settings

_APPLICATION = "retrank"
_LOGS = "/tmp/ray/session_latest/logs"
_POLL_S = 0.1


def run(config: dict[str, Any]) -> None:
    """Serve a bundle until interrupted.

    Args:
        config: `bundle`, a path, and `serving`, the other fields of `Settings`.

    Raises:
        ConfigError: a setting is unknown or out of range, or the port is taken.
        BundleError: the bundle is refused; found before anything is started.
    """
    settings = parse_settings({"bundle": config["bundle"], **config["serving"]})
    _refuse_taken_port(settings)
    print(f"opening {settings.bundle}", flush=True)
    bundle = _proven(settings)
    _begin(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _admin(settings), serving(settings) as url:
            signal.signal(signal.SIGTERM, _interrupt)  # Ray installs a handler of its own while it starts
            print(f"serving {bundle.model} from bundle {bundle.id} with {settings.replicas} replica(s)")
            print(f"ready on {url}/   routes: {url}/openapi.json   Ctrl-C stops", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("stopped", flush=True)


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Start Ray and the application, yield the address once it answers, and take everything down again.

    Raises:
        ConfigError: Ray refused to start, or nothing answered in time.
    """
    with ingress.prepared(os.environ, settings.host) as folder:
        try:
            _start(settings, listen_on=settings.host if folder is None else ingress.LOOPBACK)
            host = ingress.LOOPBACK if settings.host == "0.0.0.0" else settings.host
            _wait_until_ready(host, settings)
            if folder is None:
                print("no HAProxy binary: Ray's own proxy stands in front, expect a fraction of the throughput")
            yield f"http://{host}:{settings.port}"
        finally:
            _stop()


def _start(settings: Settings, *, listen_on: str) -> None:
    from ray import serve  # noqa: PLC0415  (reads the environment when it is imported)
    from ray.serve.schema import LoggingConfig  # noqa: PLC0415

    from retrank.serving.app import build_app  # noqa: PLC0415

    quiet = LoggingConfig(log_level=logging.WARNING, enable_access_log=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        _start_ray(settings)
        with suppress(TimeoutError):  # Serve gives its proxies a minute; how long is long enough is our setting
            serve.start(http_options={"host": listen_on, "port": settings.port}, logging_config=quiet)
        serve.run(build_app(settings), name=_APPLICATION, logging_config=quiet)
    except RetrankError:
        raise
    except Exception as error:  # Ray raises a bare one when its own processes do not start
        cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ConfigError(f"Ray Serve did not start: {cause}; its logs are in {_LOGS}") from error


def _start_ray(settings: Settings) -> None:
    """Start Ray's own processes; half a minute is all Ray gives them, so a cold disk gets a second try."""
    import ray  # noqa: PLC0415

    def start() -> None:
        ray.init(
            address="local",
            num_cpus=max(settings.replicas, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )

    try:
        start()
    except Exception as error:  # noqa: BLE001  (the bare one again)
        logging.getLogger(__name__).warning("Ray did not start (%s), trying once more", error)
        ray.shutdown()
        start()


def _stop() -> None:
    """Take down what was started; nothing when a signal came before Ray was there (stopping it would start it)."""
    if not getattr(sys.modules.get("ray"), "is_initialized", bool)():
        return
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    interruptible = signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's own signature
    ray.shutdown()
    signal.signal(signal.SIGINT, interruptible)


def _proven(settings: Settings) -> BundleInfo:
    """Open the bundle once here, so that a bad one is refused with one message instead of a replica's traceback."""
    return Recommender.open(settings.bundle, settings.pipeline).bundle


def _begin(settings: Settings) -> None:
    """Say what the settings ask for; what operators activated since they last changed stays, and is named."""
    desired = begin(settings)
    if desired.active != desired.configured:
        print(f"bundle {desired.active} was activated since; `retrank ctl activate {desired.configured}` changes that")


def _admin(settings: Settings) -> AbstractContextManager[str | None]:
    return admin_port(settings) if settings.admin.enabled else nullcontext()


def _refuse_taken_port(settings: Settings) -> None:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); stop what is running there or "
                "choose another serving.port, and name an interface of this machine as serving.host"
            ) from error


def _wait_until_ready(host: str, settings: Settings) -> None:
    deadline = time.monotonic() + settings.ready_timeout_s
    while time.monotonic() < deadline:
        with closing(http.client.HTTPConnection(host, settings.port, timeout=1.0)) as connection:
            try:
                connection.request("GET", "/readyz")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            except OSError:
                pass
        time.sleep(_POLL_S)
    raise ConfigError(
        f"http://{host}:{settings.port}/readyz did not answer within serving.ready_timeout_s="
        f"{settings.ready_timeout_s:g}; Ray's logs are in {_LOGS}"
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise KeyboardInterrupt
