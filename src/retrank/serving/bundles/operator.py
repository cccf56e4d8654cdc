"""What operators do to bundles: read the fleet, and edit what it should serve. Holds no state, so any process may.

A dry run goes through every check and writes nothing.
"""

from collections.abc import Callable
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from retrank.serving.bundles import desired as state
from retrank.serving.bundles.desired import Author, BundleId, Canary, Change, Desired, Edit, Staged, SwapRefused
from retrank.serving.bundles.library import Library, identify
from retrank.serving.bundles.sources import parse_source
from retrank.serving.bundles.status import ReplicaStatus
from retrank.serving.pipeline import Clock
from retrank.serving.stores.protocol import Control


class BundleListed(BaseModel):
    """A bundle of the library, or one that is staged.

    Attributes:
        id: its name.
        state: what it is to the fleet; "held" when it merely lies in the library.
        model, run_id, created_at, metrics: from its manifest; None while it is not here.
        ready_on: replicas that checked every byte of it, or hold it in memory.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    state: str
    model: str | None = None
    run_id: str | None = None
    created_at: datetime | None = None
    metrics: dict[str, float] = {}
    ready_on: int = 0


class FleetStatus(BaseModel):
    """What should serve, what serves, and whether that is the same everywhere."""

    model_config = ConfigDict(frozen=True)

    desired: Desired | None
    converged: bool
    replicas: dict[str, ReplicaStatus]


class Outcome(BaseModel):
    """The desired state after an edit, and how many live replicas it concerns; not written in a dry run.

    `warnings` says in words what the caller may not expect.
    """

    model_config = ConfigDict(frozen=True)

    desired: Desired
    dry_run: bool
    replicas: int
    warnings: tuple[str, ...] = ()


class Operator:
    """Acts on one fleet."""

    def __init__(self, control: Control, library: Library, *, now: Clock, new_salt: Callable[[], str]) -> None:
        """Act through a control store.

        Args:
            control: of the fleet.
            library: on this host; used to list bundles.
            now: seconds since 1970.
            new_salt: a salt nobody used before, for the split of a canary.
        """
        self._control = control
        self._library = library
        self._now = now
        self._new_salt = new_salt

    def status(self) -> FleetStatus:
        """Return the desired state and what every live replica says of itself."""
        desired, replicas = state.read(self._control), self._replicas()
        converged = (
            desired is not None
            and bool(replicas)
            and all(replica.generation == desired.generation for replica in replicas.values())
        )
        return FleetStatus(desired=desired and _shown(desired), converged=converged, replicas=replicas)

    def bundles(self) -> list[BundleListed]:
        """List the bundles of the library, newest first, then those that are staged and not here yet."""
        desired, replicas, manifests = state.read(self._control), self._replicas(), self._library.manifests()
        absent = [one.id for one in (desired.staged if desired else ()) if one.id not in manifests]
        found = []
        for name in [*manifests, *absent]:
            manifest = manifests.get(name)
            facts = {} if manifest is None else manifest.model_dump(include={"model", "run_id", "created_at"})
            metrics = {} if manifest is None else manifest.metrics.values
            ready = sum(_has(replica, name) for replica in replicas.values())
            found.append(BundleListed(id=name, state=_role(desired, name), metrics=metrics, ready_on=ready, **facts))
        return found

    def stage(self, source: str, by: Author, *, dry_run: bool = False) -> Outcome:
        """Let every replica hold a bundle ready: from a folder or URL, or by its id when it is in the library.

        Of a root that is the bundle its `current` names now: replicas fetch this one, however late they come.

        Raises:
            RetrankError: there is no bundle, or one of another format.
        """
        if source in self._library_ids():
            staged, shown = Staged(id=source), source
        else:
            given = parse_source(source)
            name = identify(given)[0]
            pinned = parse_source(given.pinned)
            staged, shown = Staged(id=name, source=given.pinned), str(pinned)
        warnings = self._known_already(staged, shown)
        done = self._edit(state.stage(staged, self._line("stage", staged.id, by, reason=shown)), dry_run=dry_run)
        return done.model_copy(update={"warnings": warnings})

    def unstage(self, name: BundleId, by: Author, *, dry_run: bool = False) -> Outcome:
        """Let replicas hold a bundle ready no longer; its files stay in the library.

        Raises:
            SwapRefused: it is not staged, it answers, or a rollback goes back to it.
        """
        return self._edit(state.unstage(name, self._line("unstage", name, by)), dry_run=dry_run)

    def activate(self, name: BundleId, by: Author, *, dry_run: bool = False) -> Outcome:
        """Let a bundle answer everything.

        Raises:
            SwapRefused: a live replica does not hold it ready, or it is active already.
        """
        self._check_ready(name)
        return self._edit(state.activate(name, self._line("activate", name, by)), dry_run=dry_run)

    def canary(self, name: BundleId, percent: float, by: Author, *, dry_run: bool = False) -> Outcome:
        """Let a bundle answer a share of the keys, 0 < percent <= 100; percent 0 ends the trial.

        A change of the share alone keeps the salt, so that whoever was in a growing trial stays in it.

        Raises:
            SwapRefused: a live replica does not hold it ready, or it is the active one.
        """
        wanted = None
        if percent > 0:
            self._check_ready(name)
            desired = state.read(self._control)
            running = desired.canary if desired else None
            salt = running.salt if running and running.id == name else self._new_salt()
            wanted = Canary(id=name, percent=percent, salt=salt)
        line = self._line("canary", name, by, reason=f"{percent:g} %")
        return self._edit(state.canary(wanted, line), dry_run=dry_run)

    def rollback(self, by: Author, reason: str = "", *, dry_run: bool = False) -> Outcome:
        """End the canary if there is one, else go back to the bundle before.

        Raises:
            SwapRefused: there is nothing to go back to, or no replica could open it.
        """
        desired = state.read(self._control)
        if desired is not None and desired.canary is None and desired.previous is not None:
            self._check_ready(desired.previous)
        return self._edit(state.rollback(self._line("rollback", "", by, reason)), dry_run=dry_run)

    def _known_already(self, staged: Staged, shown: str) -> tuple[str, ...]:
        """Say what is different from staging a bundle that nobody knows: the name is a hash of all its bytes."""
        if staged.source is None:
            return ()
        desired, said = state.read(self._control), []
        if staged.id in self._library_ids():
            said.append(
                f"bundle {staged.id} lies in the library already; nothing is fetched from {shown} unless it is damaged"
            )
        before = next((one for one in (desired.staged if desired else ()) if one.id == staged.id), staged)
        if before.source not in (None, staged.source):
            said.append(f"it was staged from {parse_source(before.source)}; who lacks it fetches it from {shown} now")
        return tuple(said)

    def _check_ready(self, name: BundleId) -> None:
        """Refuse a bundle that a live replica neither holds in memory nor has checked on its disk."""
        replicas = self._replicas()
        if not replicas:
            raise SwapRefused("no replica is alive; nothing would answer from the bundle")
        lacking = sorted(who for who, replica in replicas.items() if not _has(replica, name))
        if not lacking:
            return
        said = {replica.errors[name] for replica in replicas.values() if name in replica.errors}
        why = f": {'; '.join(sorted(said))}" if said else "; stage it, and wait until `retrank ctl bundles` says so"
        raise SwapRefused(f"bundle {name} is not ready on {len(lacking)} of {len(replicas)} replicas{why}")

    def _edit(self, change: Edit, *, dry_run: bool) -> Outcome:
        replicas = len(self._replicas())
        if not dry_run:
            return Outcome(desired=_shown(state.edit(self._control, change)), dry_run=False, replicas=replicas)
        before = state.read(self._control)
        if before is None:
            raise SwapRefused("no replica has started yet, so there is nothing to change; start the service first")
        return Outcome(desired=_shown(change(before)), dry_run=True, replicas=replicas)

    def _line(self, action: state.Action, name: str, by: Author, reason: str = "") -> Change:
        return Change(at=self._now(), by=by.name, key=by.key, action=action, id=name, reason=reason)

    def _replicas(self) -> dict[str, ReplicaStatus]:
        return {who: ReplicaStatus.model_validate(said) for who, said in self._control.beats(self._now()).items()}

    def _library_ids(self) -> set[str]:
        return set(self._library.manifests())


def _has(replica: ReplicaStatus, name: str) -> bool:
    return name in replica.resident or name in replica.verified


def _shown(desired: Desired) -> Desired:
    """Return what people and logs may see: URLs without the secrets that replicas fetch with."""
    staged = tuple(
        one if one.source is None else one.model_copy(update={"source": str(parse_source(one.source))})
        for one in desired.staged
    )
    return desired.model_copy(update={"staged": staged})


def _role(desired: Desired | None, name: str) -> str:
    if desired is None:
        return "held"
    if name == desired.active:
        return "active"
    if desired.canary is not None and name == desired.canary.id:
        return f"canary {desired.canary.percent:g} %"
    if name == desired.previous:
        return "previous"
    return "staged" if name in {one.id for one in desired.staged} else "held"
