"""What `GET /metrics` says: the series of every replica on this host, whichever replica is asked.

Behind HAProxy a scrape reaches one replica at random. Each replica therefore writes its series into memory-mapped files
of a folder that the service's replicas share (prometheus_client's multiprocess mode), and the one that is asked adds
them up. Counters of replicas that ended stay in the sum, else a restart would look like a reset; their gauges go. A
replica counts as ended when its process is gone or its number belongs to another process that started later.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from retrank.serving.telemetry.series import BUNDLE_AGE, BUNDLE_CREATED, REPLICAS, RSS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ALIVE = re.compile(r"replica_(\d+)")


def share(folder: Path) -> None:
    """Make series that are created from now on in this process live in a folder.

    prometheus_client decides this when it is imported; a replica that imported it before decides again here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_VARIABLE] = str(folder)
    own = os.getpid()  # the library would ask the kernel for it at every count, 40 times a slate; a replica never forks
    values.ValueClass = values.MultiProcessValue(lambda: own)  # type: ignore[no-untyped-call]  # its own signature
    (folder / f"replica_{own}").write_text(_started(own) or "")


class Exposition:
    """Writes the series as text."""

    def __init__(self, own: CollectorRegistry, folder: Path | None, *, now: Callable[[], float]) -> None:
        """Read from a registry, or from the folder that replicas share.

        Args:
            own: series of this process, used when nothing is shared.
            folder: where replicas write; None when this is the only one.
            now: seconds since the Unix epoch.
        """
        self._folder = folder
        self._scraped = CollectorRegistry()
        self._scraped.register(_Host(own, folder, now))

    def text(self) -> bytes:
        """Return the series of every replica of this host, in Prometheus' text format."""
        if self._folder is not None:
            _forget_ended(self._folder)
        return generate_latest(self._scraped)


class _Host(Collector):
    """The series of all replicas, and what is better read when asked than written now and then."""

    def __init__(self, own: CollectorRegistry, folder: Path | None, now: Callable[[], float]) -> None:
        self._own = own
        self._folder = folder
        self._now = now

    def collect(self) -> Iterable[Metric]:
        families = list(self._merged())
        yield from families
        for family in families:
            created = [sample.value for sample in family.samples if sample.value > 0]
            if family.name == BUNDLE_CREATED and created:
                age = max(0.0, self._now() - created[0])
                yield GaugeMetricFamily(BUNDLE_AGE, "age of the oldest bundle that answers, s", value=age)
        replicas = [os.getpid()] if self._folder is None else _replicas(self._folder)
        yield GaugeMetricFamily(REPLICAS, "replica processes on this host", value=len(replicas))
        memory = GaugeMetricFamily(RSS, "resident memory of a replica, shared pages included", labels=["replica"])
        for pid in replicas:
            memory.add_metric([str(pid)], _resident(pid))
        yield memory

    def _merged(self) -> Iterable[Metric]:
        if self._folder is None:
            return self._own.collect()
        shared: Collector = MultiProcessCollector(CollectorRegistry(), path=str(self._folder))  # type: ignore[no-untyped-call]  # ditto
        return shared.collect()


def _replicas(folder: Path) -> list[int]:
    return sorted(int(found[1]) for path in folder.iterdir() if (found := _ALIVE.fullmatch(path.name)))


def _forget_ended(folder: Path) -> None:
    for pid in _replicas(folder):
        mark = folder / f"replica_{pid}"
        try:
            alive = mark.read_text() == _started(pid)
        except FileNotFoundError:  # another replica was asked at the same time, and was faster
            continue
        if not alive:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # ditto
            mark.unlink(missing_ok=True)


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None when there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * float(_PAGE_BYTES)
    except (OSError, IndexError):
        return 0.0
