"""From settings to the pieces that serve and administer bundles; the deployments and commands only call these."""

import secrets
import time
from pathlib import Path

from retrank.contract.bundle import locate
from retrank.serving.bundles.desired import Desired, start
from retrank.serving.bundles.fleet import Fleet
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.operator import Operator
from retrank.serving.bundles.replica import Replica, open_replica
from retrank.serving.recommender import Recommender
from retrank.serving.settings import Settings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import Control

_SALT_BYTES = 8


def open_service_replica(settings: Settings, name: str, control: Control | None = None) -> Replica:
    """Open what the fleet should serve, as one replica of it; `run` makes it follow.

    Args:
        settings: of the service.
        name: of the replica.
        control: the shared state, when it is open already.

    Raises:
        BundleError: there is nothing that can be opened.
    """

    def opened(path: Path) -> Recommender:
        return Recommender.open(path, settings.pipeline)

    def rehearsal(ready: Recommender) -> Recommender:
        return Recommender(ready.runtime, settings.pipeline)

    fleet = _fleet(settings, control or open_store(settings.state))
    return open_replica(name, fleet, settings.bundle, opened=opened, rehearsal=rehearsal, settings=settings.bundles)


def begin(settings: Settings, control: Control | None = None) -> Desired:
    """Say that the service starts with these settings, and return what it will serve; see `desired.start`."""
    fleet = _fleet(settings, control or open_store(settings.state))
    return start(fleet, locate(settings.bundle).name, time.time())


def open_operator(settings: Settings, control: Control | None = None) -> Operator:
    """Return an operator of the fleet that these settings describe; it needs no replica in this process."""
    directory = locate(settings.bundle)
    return Operator(
        _fleet(settings, control or open_store(settings.state)),
        Library.around(directory, max_bytes=settings.bundles.max_bytes),
        now=time.time,
        new_salt=lambda: secrets.token_hex(_SALT_BYTES),
    )


def _fleet(settings: Settings, control: Control) -> Fleet:
    return Fleet(control, locate(settings.bundle).parent)
