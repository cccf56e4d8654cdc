"""How the bundles of a library are loaded in this process: in turn with the other replicas of the host, and gently."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from retrank.contract.api import RecommendRequest
from retrank.contract.manifest import Manifest
from retrank.contract.rest import Rest, no_rest
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.load import Open, Rehearse, load
from retrank.serving.bundles.pace import Pace
from retrank.serving.bundles.turn import Turn
from retrank.serving.recommender import Recommender
from retrank.serving.swap_settings import LoadSettings

_QUICK_S = 0.0005


class Loading:
    """Gets bundles ready to answer."""

    def __init__(
        self,
        library: Library,
        settings: LoadSettings,
        *,
        opened: Open,
        rehearsal: Rehearse,
        pace: Pace,
        turn: Turn | None,
    ) -> None:
        """Load what lies in a library.

        Args:
            library: where bundles lie.
            settings: what each must show.
            opened, rehearsal: see `load`.
            pace: leaves time to those who answer meanwhile.
            turn: shared with the other replicas of the host; None needs none.
        """
        self._library, self._settings, self._pace, self._turn = library, settings, pace, turn
        self._opened, self._rehearsal = opened, rehearsal

    def turn(self, since: float) -> AbstractContextManager[bool]:
        """Say whether this replica may load now, and keep the others of this host from it meanwhile.

        `since` is when it wanted to first, in monotonic seconds.
        """
        return nullcontext(enter_result=True) if self._turn is None else self._turn.taken(since)

    def load(
        self, name: str, beside: Manifest | None, requests: Sequence[RecommendRequest], look: Rest = no_rest
    ) -> Recommender:
        """Return a proven recommender.

        Args:
            name: of the bundle.
            beside: what answers meanwhile; None when nobody has to be spared.
            requests: served lately.
            look: called between pieces of work; what it raises ends the load.

        Raises:
            BundleError: the bundle is refused.
        """
        with nullcontext() if beside is None else _quick_switches():
            return load(
                self._library.path(name),
                self._settings,
                beside=beside,
                requests=requests[-self._settings.max_rehearsal :],
                opened=self._opened,
                rehearsal=self._rehearsal,
                rest=look if beside is None else self._pace.begin(look),
            )


@contextmanager
def _quick_switches() -> Iterator[None]:
    """Let the thread that answers take the interpreter back ten times sooner while another one loads."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, _QUICK_S))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
