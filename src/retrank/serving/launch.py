"""`retrank serve`: start Ray Serve on this machine, wait until it answers, and stop cleanly on Ctrl-C or SIGTERM."""

import http.client
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from retrank.contract.api import BundleInfo
from retrank.contract.errors import ConfigError, RetrankError
from retrank.serving import ingress, ray_voice
from retrank.serving.admin import admin_port
from retrank.serving.before_start import look_around, refuse_unwritable
from retrank.serving.bundles.opening import to_prove, try_begin
from retrank.serving.guard.drain import FOLDER_VARIABLE, Drain
from retrank.serving.guard.settings import DrainSettings
from retrank.serving.recommender import Recommender
from retrank.serving.settings import Settings, parse_settings
from retrank.serving.telemetry.logs import announce, json_to_stderr

_APPLICATION = "retrank"
_POLL_S = 0.1


def run(config: dict[str, Any]) -> None:
    """Serve a bundle until interrupted.

    Args:
        config: `bundle`, a path, and `serving`, the other fields of `Settings`.

    Raises:
        ConfigError: a setting is unknown or out of range, a key file or a folder cannot be used, or a port is taken.
        BundleError: the bundle is refused; found before anything is started.
    """
    settings = parse_settings({"bundle": config["bundle"], **config["serving"]})
    say = _voice(settings)
    look_around(settings, say)
    say(f"opening {settings.bundle}")
    bundle = _proven(settings)
    refuse_unwritable(settings)
    _begin(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with serving(settings) as running, admin_beside(settings):
            signal.signal(signal.SIGTERM, _interrupt)  # Ray installs a handler of its own while it starts
            url = running.url
            say(f"serving {bundle.model} from bundle {bundle.id} with {settings.replicas} replica(s)")
            say(f"logs of its processes: {ray_voice.logs_folder()}")
            if settings.rpc.enabled:
                say(f"gRPC on {settings.rpc.host}:{settings.rpc.port}")
            say(f"ready on {url}/   routes: {url}/openapi.json   Ctrl-C stops")
            _pause_until_told(running, settings.guard.drain, say)
    except KeyboardInterrupt:
        say("stopped")


def _voice(settings: Settings) -> Callable[[str], None]:
    """Return how to tell the one who started the service how it stands; log lines get the same form."""
    as_json = settings.telemetry.log_format == "json"
    if as_json:
        json_to_stderr()
    return partial(announce, as_json=as_json)


class Running(NamedTuple):
    """A service that answers: its address, and the folder of its HAProxy, if there is one."""

    url: str
    front: Path | None


@contextmanager
def serving(settings: Settings) -> Iterator[Running]:
    """Start Ray and the application, yield once it answers, and take everything down again.

    Raises:
        ConfigError: Ray refused to start, or nothing answered in time.
    """
    with _shared_folder(os.environ), ingress.prepared(os.environ, settings.host) as folder:
        try:
            _start(settings, listen_on=settings.host if folder is None else ingress.LOOPBACK)
            host = ingress.LOOPBACK if settings.host == "0.0.0.0" else settings.host
            _wait_until_ready(host, settings)
            if folder is None:
                _voice(settings)(
                    "no HAProxy binary: Ray's own proxy stands in front, expect a fraction of the throughput"
                )
            yield Running(f"http://{host}:{settings.port}", folder)
        finally:
            _stop()


def _start(settings: Settings, *, listen_on: str) -> None:
    from ray import serve  # noqa: PLC0415  (reads the environment when it is imported)
    from ray.serve.schema import LoggingConfig  # noqa: PLC0415

    from retrank.serving.app import build_app  # noqa: PLC0415

    quiet = LoggingConfig(log_level=logging.WARNING, enable_access_log=False)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray_voice.retell()
    try:
        _start_ray(settings)
        _take_signals()
        with suppress(TimeoutError):  # Serve gives its proxies a minute; how long is long enough is our setting
            serve.start(http_options={"host": listen_on, "port": settings.port}, logging_config=quiet)
        serve.run(build_app(settings), name=_APPLICATION, logging_config=quiet)
    except RetrankError:
        raise
    except Exception as error:  # Ray raises a bare one when its own processes do not start
        cause, logs = ray_voice.why_no_replica(_APPLICATION, error), ray_voice.logs_folder()
        raise ConfigError(f"the service did not start: {cause}; logs of its processes: {logs}") from error


def _take_signals() -> None:
    """End cleanly on SIGTERM while the service still starts: Ray's core has put a handler in place that aborts."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


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
    with ray_voice.silenced(), redirect_stdout(io.StringIO()):
        serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's own signature
        ray.shutdown()
    signal.signal(signal.SIGINT, interruptible)


def _proven(settings: Settings) -> BundleInfo:
    """Open the bundle once here, so that a bad one is refused with one message instead of a replica's traceback."""
    return Recommender.open(to_prove(settings), settings.pipeline).bundle


def _begin(settings: Settings) -> None:
    """Say what the settings ask for; what operators activated since they last changed stays, and is named."""
    desired = try_begin(settings)
    if desired is not None and desired.active != desired.configured:
        _voice(settings)(
            f"bundle {desired.active} was activated since; `retrank ctl activate {desired.configured}` changes that"
        )


def admin_beside(settings: Settings) -> AbstractContextManager[str | None]:
    """Serve the admin routes beside the service of this environment, which they can let leave; None: not enabled."""
    drain = Drain.of(os.environ).begin
    return admin_port(settings, drain) if settings.admin.enabled else nullcontext()


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
        f"{settings.ready_timeout_s:g}; Ray's logs are in {ray_voice.logs_folder()}"
    )


class _Terminated(KeyboardInterrupt):
    """SIGTERM: somebody else stops the service, and callers may still be on their way to it."""


def _interrupt(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise _Terminated


def _pause_until_told(running: Running, drain: DrainSettings, say: Callable[[str], None]) -> None:
    """Wait for a signal, then leave without cutting anybody off; a second signal cuts it short.

    SIGTERM comes while a load balancer still sends requests here: for a window the service answers on and says on
    /readyz that it is leaving. Ctrl-C comes from the person in front of it, and skips that.
    """
    try:
        signal.pause()
    except KeyboardInterrupt as told:
        window_s = drain.window_s if isinstance(told, _Terminated) else 0.0
    Drain.of(os.environ).begin()
    say(f"leaving: /readyz says so, new connections are refused in {window_s:g} s")
    time.sleep(window_s)
    if running.front is not None and not ingress.close_front(running.front, within_s=drain.finish_s):
        say(f"connections were still open after {drain.finish_s:g} s")


@contextmanager
def _shared_folder(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Give the replicas of this service a folder in common, for counts and for the mark of leaving."""
    given = environment.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="retrank-service-", ignore_cleanup_errors=True) as folder:
        environment[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            if given is None:
                del environment[FOLDER_VARIABLE]
            else:
                environment[FOLDER_VARIABLE] = given
