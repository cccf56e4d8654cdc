"""What a replica knows of every tenant's shelf: kept fresh by a thread, read by requests without waiting."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from pydantic import JsonValue

from retrank.contract.errors import FormatError
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.live_rules import NO_HOUSE, House
from retrank.serving.placements.shelf import name_of, parse
from retrank.serving.stores.protocol import Control

_MAX_TENANTS = 1_000
_log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """A document as it was read, and what it says."""

    value: JsonValue
    house: House


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
        self._known = KeptFresh(self._newer, _Read(None, NO_HOUSE), clock, every_s=every_s, max_keys=_MAX_TENANTS)

    def of(self, tenant: str) -> House:
        """Return what holds for a tenant."""
        return self._known.look(tenant)[0].house

    def poll(self) -> None:
        """Look for changes of every tenant that was asked about lately."""
        self._known.poll()

    def _newer(self, tenant: str, known: _Read) -> _Read:
        value = self._control.document(name_of(tenant)).value
        if value == known.value:
            return known
        try:
            return _Read(value, parse(value).house())
        except FormatError as error:
            _log.error("%s; those known before go on to hold", error)
            return _Read(value, known.house)  # said once, not with every look
