"""The catalogue as it is now: the newest state of each tenant's, read from the shared store, kept fresh by a thread."""

from collections.abc import Callable
from dataclasses import replace
from weakref import ref

from retrank.serving.changes import NO_CHANGES, Changes
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.stores.protocol import CatalogueOverlay

_MAX_TENANTS = 1_000


class Overlay:
    """The newest known changes of each tenant's catalogue."""

    def __init__(
        self,
        store: CatalogueOverlay,
        clock: Callable[[], float],
        every_s: float,
        carry_over: Callable[[Changes], None] = lambda _: None,
        prepare: Callable[[Changes], None] = lambda _: None,
    ) -> None:
        """Start without knowledge.

        Args:
            store: where changes are kept.
            clock: monotonic seconds.
            every_s: how often `poll` is called.
            carry_over: told every new state before requests see it, perhaps by one that waits; quick.
            prepare: told all states after every poll, by the thread that polls; may take long.
        """

        def newer(tenant: str, known: Changes) -> Changes:
            forgotten = store.forgotten_changes(tenant)
            changes = store.item_changes(tenant, max(known.version - 1, 0))
            if known.followed_by(changes):
                found = known.with_more([change for change in changes if change.version > known.version])
            else:
                found = NO_CHANGES.with_more(store.item_changes(tenant, 0))
            found = found.without(forgotten)
            if found is not known:
                if found.before is None or found.before() is not known:
                    found = replace(found, akin=ref(known))
                carry_over(found)
            return found

        self._prepare = prepare
        self._known = KeptFresh(newer, NO_CHANGES, clock, every_s=every_s, max_keys=_MAX_TENANTS)

    def look(self, tenant: str) -> tuple[Changes, bool]:
        """Return the changes and whether they are fresh; False while the store does not answer."""
        return self._known.look(tenant)

    def known(self) -> list[Changes]:
        """Return the changes of every tenant that was asked about lately."""
        return self._known.values()

    def read(self, tenant: str) -> Changes:
        """Ask the store now.

        Raises:
            StoreUnavailable: it does not answer.
        """
        return self._known.refresh(tenant)

    def prepare(self, changes: Changes) -> None:
        """Let those who answer prepare for a state now, at the cost of the caller."""
        self._prepare(changes)

    def poll(self) -> None:
        """Look for changes of every tenant that was asked about lately, and prepare for what is known."""
        self._known.poll()
        for changes in self.known():
            self._prepare(changes)  # old ones too: much may be left, and somebody may have begun to answer
