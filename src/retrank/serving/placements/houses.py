"""What a replica knows of every tenant's shelf: kept fresh by a thread, read by requests without waiting."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from pydantic import JsonValue

from retrank.contract.errors import FormatError
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.live_rules import UNREAD, House
from retrank.serving.placements.shelf import name_of, parse
from retrank.serving.stores.protocol import Control

_MAX_TENANTS = 1_000
_log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """A document as it was read, and what it says; `looked` is False before the first look."""

    value: JsonValue
    house: House
    looked: bool = True


class Houses:
    """The newest known placements and rules of each tenant; those known before while the store is away."""

    def __init__(self, control: Control, clock: Callable[[], float], every_s: float) -> None:
        """Start without knowledge.

        Args:
            control: where operators put them.
            clock: monotonic seconds.
            every_s: how often `poll` is called.
        """
        self._control = control
        self._known = KeptFresh(
            self._newer, _Read(None, UNREAD, looked=False), clock, every_s=every_s, max_keys=_MAX_TENANTS
        )

    def of(self, tenant: str) -> House:
        """Return what holds for a tenant; not `known` where it could not be read since the replica began."""
        return self._known.look(tenant)[0].house

    def poll(self) -> None:
        """Look for changes of every tenant that was asked about lately."""
        self._known.poll()

    def _newer(self, tenant: str, known: _Read) -> _Read:
        value = self._control.document(name_of(tenant)).value
        if known.looked and value == known.value:
            return known
        if value is None and known.value is not None:
            _log.warning(
                "the placements and rules of tenant %r are gone from the store, none is followed any more; "
                "if its state was replaced, give them again",
                tenant,
            )
        try:
            return _Read(value, parse(value).house())
        except FormatError as error:
            held = "those known before go on to hold" if known.house.known else "none is followed until it can be read"
            _log.error("%s; %s", error, held)
            return _Read(value, known.house)  # said once, not with every look
