"""From settings to the pieces that serve and administer bundles; the deployments and commands only call these."""

import logging
import secrets
import time

from retrank.contract.bundle import VerifiedBundle, locate
from retrank.serving.backing import open_state
from retrank.serving.bundles.desired import Desired, start
from retrank.serving.bundles.fleet import Fleet
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.operator import Operator
from retrank.serving.bundles.replica import Replica, open_replica
from retrank.serving.recommender import Recommender
from retrank.serving.settings import Settings
from retrank.serving.stores.protocol import Control, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry

_log = logging.getLogger(__name__)
_SALT_BYTES = 8


def open_service_replica(
    settings: Settings, name: str, *, control: Control | None = None, telemetry: Telemetry | None = None
) -> Replica:
    """Open what the fleet should serve, as one replica of it; `run` makes it follow.

    Args:
        settings: of the service.
        name: of the replica.
        control: the shared state, when it is open already.
        telemetry: told what answers, and how.

    Raises:
        BundleError: there is nothing that can be opened.
    """

    said = telemetry or Telemetry()

    def opened(bundle: VerifiedBundle) -> Recommender:
        recommender = Recommender.over(bundle, settings.pipeline)
        recommender.tally.telemetry = said
        return recommender

    def rehearsal(ready: Recommender) -> Recommender:
        return Recommender(ready.runtime, settings.pipeline)

    fleet = _fleet(settings, control or open_state(settings))
    replica = open_replica(name, fleet, settings.bundle, opened=opened, rehearsal=rehearsal, settings=settings.bundles)
    replica.tell(said)
    return replica


def begin(settings: Settings, control: Control | None = None) -> Desired:
    """Say that the service starts with these settings, and return what it will serve; see `desired.start`."""
    fleet = _fleet(settings, control or open_state(settings))
    return start(fleet, locate(settings.bundle).name, time.time())


def try_begin(settings: Settings) -> Desired | None:
    """Begin, unless the store is away: then return None, and the first replica to reach it says it instead."""
    try:
        return begin(settings)
    except StoreUnavailable as error:
        _log.warning("control store away, starting with the configured bundle: %s", error)
        return None


def open_operator(settings: Settings, control: Control | None = None) -> Operator:
    """Return an operator of the fleet that these settings describe; it needs no replica in this process."""
    directory = locate(settings.bundle)
    return Operator(
        _fleet(settings, control or open_state(settings)),
        Library.around(directory, max_bytes=settings.bundles.max_bytes),
        now=time.time,
        new_salt=lambda: secrets.token_hex(_SALT_BYTES),
    )


def _fleet(settings: Settings, control: Control) -> Fleet:
    return Fleet(control, locate(settings.bundle).parent)
