"""Everything about bundles that one serving process runs: what answers, and three threads that keep it current.

    reconcile   every poll_s: look at the desired state, load, swap, watch
    stage       every poll_s: fetch and check staged bundles; may take minutes, so nothing waits for it
    beat        every beat_s: say what this replica runs

The event loop is never asked to do any of it. When the control store is away, what answers goes on answering.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from retrank.contract.errors import RetrankError
from retrank.serving.bundles.configured import Configured
from retrank.serving.bundles.desired import Desired, read, start
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.holder import Holder, Serving
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.load import Open, Rehearse
from retrank.serving.bundles.loading import Loading
from retrank.serving.bundles.pace import Pace
from retrank.serving.bundles.reconcile import Reconciler
from retrank.serving.bundles.sources import parse_source
from retrank.serving.bundles.stager import Stager
from retrank.serving.bundles.status import BundleFigures, ReplicaStatus, memory_now
from retrank.serving.bundles.turn import Turn
from retrank.serving.pipeline import Clock
from retrank.serving.recommender import Recommender
from retrank.serving.stores.protocol import Control, StoreUnavailable
from retrank.serving.swap_settings import BundlesSettings
from retrank.serving.telemetry.facade import Telemetry

_log = logging.getLogger(__name__)
_STOP_S = 5.0


@dataclass(frozen=True)
class Clocks:
    """Time: monotonic seconds, seconds since 1970, and how work beside those who answer takes its rests."""

    monotonic: Clock = time.monotonic
    now: Clock = time.time
    pace: Pace = field(default_factory=Pace)


class Replica:
    """What a process that answers needs to know about bundles; `front` is what its routes ask."""

    def __init__(
        self,
        name: str,
        control: Control,
        library: Library,
        serving: Serving,
        loader: Loading,
        *,
        settings: BundlesSettings,
        clocks: Clocks,
        to_start: str | None = None,
    ) -> None:
        """Take over what was opened; `run` starts the threads, or call the steps yourself.

        `to_start` is the configured bundle when the control store was away, so that nobody was told of the start yet.
        """
        self._to_start = to_start
        self._name = name
        self._control = control
        self._settings = settings
        self._clocks = clocks
        self.holder = Holder(serving)
        self.front = Front(self.holder, clocks.monotonic)
        self.stager = Stager(control, library, clock=clocks.monotonic, now=clocks.now, pace=clocks.pace)
        self.reconciler = Reconciler(
            name,
            control,
            self.front,
            self.holder,
            loader=loader,
            settings=settings,
            clock=clocks.monotonic,
            now=clocks.now,
        )
        self._telemetry = Telemetry()
        self._stop = Event()
        self._threads: list[Thread] = []

    def run(self) -> None:
        """Start the threads; they end with the process, or with `close`. A store that is away stops nobody."""
        with suppress(StoreUnavailable):  # the threads say so
            self.beat()
        for every_s, step in (
            (self._settings.poll_s, self.follow),
            (self._settings.poll_s, self.stager.step),
            (self._settings.beat_s, self.beat),
        ):
            thread = Thread(target=self._again, args=(every_s, step), name=f"bundles-{step.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop the threads; one that is in the middle of a load is left to end with the process."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_STOP_S)

    def tell(self, telemetry: Telemetry) -> None:
        """Tell telemetry which bundle answers, now and after every swap."""
        self._telemetry = telemetry
        active = self.front.bundle
        telemetry.bundle(active.id, active.created_at)

    def follow(self) -> None:
        """Take one step towards the desired state, and say at once when others may wait for what changed."""
        before, said = self.holder.serving, self._changing()
        if self._to_start is not None:
            start(self._control, self._to_start, self._clocks.now())
            self._to_start = None
        result = self.reconciler.step()
        if result is not None:
            self._telemetry.swap(result, self.reconciler.took_s)
        if result == "failed":
            for name in self.reconciler.troubles:
                self.stager.doubt(name)
        if self.holder.serving is not before:
            self.tell(self._telemetry)  # first: a heartbeat may fail
        if self._changing() != said:
            self.beat()

    def _changing(self) -> tuple[object, ...]:
        """Return what others wait for: what answers, could answer, and why not."""
        return self.holder.serving, self.reconciler.resident, self.reconciler.troubles

    def beat(self) -> None:
        """Say what this replica runs."""
        status = self.status()
        self._tell_of_models()
        self._telemetry.new_items(status.new_items)
        self._control.beat(self._name, status.model_dump(mode="json"), self._settings.ttl_s, self._clocks.now())

    def _tell_of_models(self) -> None:
        """Tell which models answer and which are left alone; where there is no canary, none of its models is."""
        serving = self.holder.serving
        on_trial = {} if serving.canary is None else serving.canary.models()
        for name, state in serving.active.models().items():
            self._telemetry.circuit(name, state)
            self._telemetry.circuit(f"canary_{name}", on_trial.get(name, "closed"))

    def status(self) -> ReplicaStatus:
        """Return what a heartbeat says."""
        serving = self.holder.serving
        names = [picked.recommender.bundle.id for picked in serving.variants()]
        troubles = {**self.stager.troubles, **self.reconciler.troubles}
        figures = {name: BundleFigures(**self.front.figures(name).summary()._asdict()) for name in names}
        return ReplicaStatus(
            active=names[0],
            canary=names[1] if len(names) > 1 else None,
            generation=serving.generation,
            resident=self.reconciler.resident,
            loading=self.reconciler.loading,
            verified=tuple(sorted(self.stager.verified)),
            errors={name: trouble.said for name, trouble in troubles.items()},
            errors_at={name: trouble.at for name, trouble in troubles.items()},
            figures=figures,
            left_alone={
                picked.recommender.bundle.id: tuple(
                    name for name, state in picked.recommender.models().items() if state != "closed"
                )
                for picked in serving.variants()
            },
            new_items=serving.active.new_item_counts()._asdict(),
            memory=memory_now(),
        )

    def _again(self, every_s: float, step: Callable[[], None]) -> None:
        away = False
        while not self._stop.wait(every_s):
            try:
                step()
                away = False
            except StoreUnavailable as error:
                if not away:
                    _log.warning("control store away, serving as before: %s", error)
                away = True
            except Exception:  # noqa: BLE001  (a replica that answers must not stop following)
                _log.exception("a step of %s failed; the next one tries again", self._name)


def open_replica(
    name: str,
    control: Control,
    configured: Path,
    *,
    opened: Open,
    rehearsal: Rehearse,
    settings: BundlesSettings,
    clocks: Clocks | None = None,
    lock: Path | None = None,
) -> Replica:
    """Open what the fleet should serve, or its predecessor when that cannot be fetched or opened here.

    While the control store is away that is the configured bundle; the replica follows when the store is back.

    Args:
        name: of this replica, in heartbeats and the audit trail.
        control: holds the desired state.
        configured: the bundle, or root, that the settings name; it says where the library is, and what to serve when
            the service starts for the first time.
        opened, rehearsal: see `load`.
        settings: of swaps.
        clocks: time.
        lock: file that makes the replicas of a host load one after the other; None loads at once.

    Raises:
        BundleError: neither can be opened.
        DownloadError: neither can be fetched.
    """
    clocks = clocks or Clocks()
    wanted = Configured.at(configured)
    library = Library(wanted.root, max_bytes=settings.max_bytes)
    turn = None if lock is None else Turn(lock, wait_s=settings.patience_s, clock=clocks.monotonic)
    loader = Loading(library, settings.load, opened=opened, rehearsal=rehearsal, pace=clocks.pace, turn=turn)
    to_start = None
    try:
        desired = read(control) or start(control, wanted.known(), clocks.now())
    except StoreUnavailable as error:
        to_start = wanted.known()
        _log.warning("control store away, serving the configured bundle %s: %s", to_start, error)
        active, generation = loader.load(to_start, None, ()), 0
    else:
        active, generation = _first(desired, library, loader)
    serving = Serving(active, generation=generation)
    return Replica(name, control, library, serving, loader, settings=settings, clocks=clocks, to_start=to_start)


def _first(desired: Desired, library: Library, loader: Loading) -> tuple[Recommender, int]:
    """Open the active bundle, fetched from where it was staged if need be; generation 0 says: not there yet."""
    try:
        _bring(desired, desired.active, library)
        settled = desired.generation if desired.canary is None else 0
        return loader.load(desired.active, None, ()), settled
    except RetrankError as error:
        if desired.previous is None:
            raise
        _log.error("%s; serving its predecessor %s meanwhile", error, desired.previous)
        _bring(desired, desired.previous, library)
        return loader.load(desired.previous, None, ()), 0


def _bring(desired: Desired, name: str, library: Library) -> None:
    for one in desired.staged:
        if one.id == name and one.source is not None and name not in library:
            library.fetch(name, parse_source(one.source))
