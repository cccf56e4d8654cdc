"""What the fleet should serve: one document in the control store, changed by compare-and-swap and by pure functions.

Nobody is told to do anything. Whoever wants a change edits the document; every replica moves towards it by itself and
says in its heartbeat how far it got. A replica that starts, or comes back, needs nothing else.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from retrank.contract.errors import FormatError, RetrankError, said_of
from retrank.serving.stores.protocol import Control

DOCUMENT = "bundles"
MAX_STAGED = 20
MAX_AUDIT = 200
_ATTEMPTS = 20
BundleId = str
Action = Literal["start", "stage", "unstage", "activate", "canary", "rollback", "refuse", "restore"]


class SwapRefused(RetrankError):  # noqa: N818  (a state of the fleet, not a mistake of the program)
    """What was asked does not fit what the fleet serves now; the document is unchanged."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Record):
    """A bundle that answers some of the traffic.

    Attributes:
        id: the bundle.
        percent: share of the keys it answers, 0..100.
        salt: makes the split of this canary independent of others.
    """

    id: str
    percent: float = Field(gt=0, le=100)
    salt: str


class Staged(_Record):
    """A bundle every replica should hold, verified; `source` is where to fetch it, None when it lies in the library."""

    id: str
    source: str | None = None


class Author(NamedTuple):
    """Who gives an order: what they call themselves, and the id of their API key; None where no keys are asked for."""

    name: str
    key: str | None = None


class Change(_Record):
    """One line of the audit trail: when (seconds since 1970), who, by which key, did what to which bundle, and why.

    `by` is what the caller says, or the name of the replica that acted by itself; `key` is the id of the API key, None
    where there was none.
    """

    at: float
    by: str
    key: str | None = None
    action: Action
    id: str
    reason: str = ""


class Desired(_Record):
    """The document.

    Attributes:
        generation: grows with every change of what answers.
        active: the bundle that answers.
        previous: the one before it, kept for rollback.
        canary: a bundle on trial.
        staged: bundles to hold ready, newest last.
        configured: what the settings named when the service was last started.
        audit: what happened, newest last, bounded.
    """

    generation: int = Field(ge=1)
    active: str
    previous: str | None = None
    canary: Canary | None = None
    staged: tuple[Staged, ...] = ()
    configured: str
    audit: tuple[Change, ...] = ()

    def answers(self) -> tuple[str, ...]:
        """Return the bundles that answer now: the active one and the canary."""
        return (self.active,) if self.canary is None else (self.active, self.canary.id)


Edit = Callable[[Desired], Desired]


def read(control: Control) -> Desired | None:
    """Return the document, None before the first start.

    Raises:
        FormatError: another version wrote it.
    """
    return _parse(control.document(DOCUMENT).value)


def edit(control: Control, change: Edit) -> Desired:
    """Apply a change to the newest document; repeated when somebody else was quicker.

    Raises:
        SwapRefused: the change does not fit the newest document, or others never stop changing it.
    """
    for _ in range(_ATTEMPTS):
        document = control.document(DOCUMENT)
        before = _parse(document.value)
        if before is None:
            raise SwapRefused("no replica has started yet, so there is nothing to change; start the service first")
        after = change(before)
        if after == before or control.write(DOCUMENT, after.model_dump(mode="json"), document.version):
            return after
    raise SwapRefused(f"others changed the document {_ATTEMPTS} times in a row; try again")


def start(control: Control, configured: BundleId, now: float) -> Desired:
    """Make the bundle the settings name the active one, if they name another than at the last start.

    So whoever spoke last wins: a restart keeps what operators activated since, new settings replace it.
    """
    line = Change(at=now, by="settings", action="start", id=configured)
    for _ in range(_ATTEMPTS):
        document = control.document(DOCUMENT)
        before = _parse(document.value)
        if before is None:
            after = Desired(generation=1, active=configured, configured=configured, audit=(line,))
        elif before.configured == configured:
            return before
        else:
            after = _serve(before.model_copy(update={"configured": configured}), configured, line)
        if control.write(DOCUMENT, after.model_dump(mode="json"), document.version):
            return after
    raise SwapRefused(f"others changed the document {_ATTEMPTS} times in a row; try again")


def restore(control: Control, known: Desired, line: Change) -> Desired:
    """Write a document again that the store has lost, or holds an older version of; return what holds now.

    A replica calls it that knows a newer generation than it reads: the file was replaced, a backup came back, or a
    replica of the store that lagged took over. The newest order given to the fleet counts.
    """
    for _ in range(_ATTEMPTS):
        document = control.document(DOCUMENT)
        before = _parse(document.value)
        if before is not None and before.generation >= known.generation:
            return before
        after = _noted(known, line)
        if control.write(DOCUMENT, after.model_dump(mode="json"), document.version):
            return after
    raise SwapRefused(f"others changed the document {_ATTEMPTS} times in a row; try again")


def stage(staged: Staged, line: Change) -> Edit:
    """Hold a bundle ready; the oldest staged one that does not answer makes room."""

    def change(before: Desired) -> Desired:
        others = [one for one in before.staged if one.id != staged.id][-(MAX_STAGED - 1) :]
        return _noted(before.model_copy(update={"staged": (*others, staged)}), line)

    return change


def unstage(bundle: BundleId, line: Change) -> Edit:
    """Hold a bundle ready no longer; its files stay in the library."""

    def change(before: Desired) -> Desired:
        if bundle in before.answers():
            raise SwapRefused(
                f"bundle {bundle} answers; activate another one, or end the canary, before it is unstaged"
            )
        if bundle == before.previous:
            raise SwapRefused(f"bundle {bundle} is what a rollback goes back to; it stays staged until it is not")
        staged = tuple(one for one in before.staged if one.id != bundle)
        if staged == before.staged:
            raise SwapRefused(f"bundle {bundle} is not staged; `retrank ctl bundles` shows what is")
        return _noted(before.model_copy(update={"staged": staged}), line)

    return change


def activate(bundle: BundleId, line: Change) -> Edit:
    """Let a bundle answer everything; it ends a canary."""

    def change(before: Desired) -> Desired:
        if before.active == bundle and before.canary is None:
            raise SwapRefused(f"bundle {bundle} is active already")
        return _serve(before, bundle, line)

    return change


def canary(wanted: Canary | None, line: Change) -> Edit:
    """Let a bundle answer a share of the traffic; None ends the trial."""

    def change(before: Desired) -> Desired:
        if wanted is not None and wanted.id == before.active:
            raise SwapRefused(f"bundle {wanted.id} is active already; a canary is another bundle")
        if wanted is None and before.canary is None:
            raise SwapRefused("there is no canary to end")
        update = {"canary": wanted, "generation": before.generation + 1}
        return _noted(before.model_copy(update=update), line)

    return change


def rollback(line: Change) -> Edit:
    """End the canary if there is one, else let the previous bundle answer again."""

    def change(before: Desired) -> Desired:
        if before.canary is not None:
            update = {"canary": None, "generation": before.generation + 1}
            return _noted(before.model_copy(update=update), line.model_copy(update={"id": before.canary.id}))
        if before.previous is None:
            raise SwapRefused(f"bundle {before.active} has no predecessor to go back to; activate another one")
        return _serve(before, before.previous, line.model_copy(update={"id": before.active}), undo=True)

    return change


def refuse(bundle: BundleId, generation: int, line: Change) -> Edit:
    """Take a bundle out that a replica cannot or should not serve, unless the document moved on meanwhile."""

    def change(before: Desired) -> Desired:
        if before.generation != generation or bundle not in before.answers():
            return before
        if before.canary is not None and before.canary.id == bundle:
            return _noted(before.model_copy(update={"canary": None, "generation": generation + 1}), line)
        if before.previous is None:
            return before
        return _serve(before, before.previous, line, undo=True)

    return change


def _serve(before: Desired, bundle: BundleId, line: Change, *, undo: bool = False) -> Desired:
    """Make a bundle active; a bundle that was undone is no place to go back to.

    The one that leaves stays staged, so that it can be activated again without more ado.
    """
    leaving = () if before.active in {one.id for one in before.staged} else (Staged(id=before.active),)
    staged = (*before.staged, *leaving)[-MAX_STAGED:]
    previous = before.previous if bundle == before.active else None if undo else before.active
    update = {
        "generation": before.generation + 1,
        "active": bundle,
        "previous": previous,
        "canary": None,
        "staged": staged,
    }
    return _noted(before.model_copy(update=update), line)


def _noted(after: Desired, line: Change) -> Desired:
    return after.model_copy(update={"audit": (*after.audit, line)[-MAX_AUDIT:]})


def _parse(value: JsonValue) -> Desired | None:
    if value is None:
        return None
    try:
        return Desired.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        said = said_of(first["msg"])
        where = ".".join(str(part) for part in first["loc"])
        raise FormatError(
            f"control document {DOCUMENT!r}: field {where!r}: {said}; was it written by another version?"
        ) from error
