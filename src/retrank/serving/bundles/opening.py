"""From settings to the pieces that serve and administer bundles; the deployments and commands only call these."""

import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from retrank.contract.bundle import VerifiedBundle
from retrank.contract.rest import Rest
from retrank.serving.backing import open_state
from retrank.serving.bundles.configured import Configured
from retrank.serving.bundles.desired import Desired, read, start
from retrank.serving.bundles.fleet import Fleet
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.operator import Operator
from retrank.serving.bundles.pace import Pace, always
from retrank.serving.bundles.replica import Clocks, Replica, open_replica
from retrank.serving.guard.drain import service_folder
from retrank.serving.recommender import Recommender
from retrank.serving.settings import Settings
from retrank.serving.stores.protocol import Control, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry

_log = logging.getLogger(__name__)
_SALT_BYTES = 8
_LOCK = "loading"


def open_service_replica(
    settings: Settings,
    name: str,
    *,
    control: Control | None = None,
    telemetry: Telemetry | None = None,
    calm: Callable[[], bool] = always,
) -> Replica:
    """Open what the fleet should serve, as one replica of it; `run` makes it follow.

    Args:
        settings: of the service.
        name: of the replica.
        control: the shared state, when it is open already.
        telemetry: told what answers, and how.
        calm: tells whether nobody waits for an answer at the moment; then is the time to load.

    Raises:
        BundleError: there is nothing that can be opened.
    """

    said = telemetry or Telemetry()

    def opened(bundle: VerifiedBundle, rest: Rest) -> Recommender:
        recommender = Recommender.over(bundle, settings.pipeline, rest=rest)
        recommender.tally.telemetry = said
        return recommender

    fleet = _fleet(settings, control or open_state(settings))
    replica = open_replica(
        name,
        fleet,
        settings.bundle,
        opened=opened,
        rehearsal=Recommender.quiet,
        settings=settings.bundles,
        clocks=Clocks(pace=Pace(calm=calm)),
        lock=(service_folder(os.environ) or settings.folder) / _LOCK,
    )
    replica.tell(said)
    return replica


def begin(settings: Settings, control: Control | None = None) -> Desired:
    """Say that the service starts with these settings, and return what it will serve; see `desired.start`.

    Raises:
        BundleError: the library's pointer leads nowhere, and no document says what to serve instead.
    """
    fleet, wanted = _fleet(settings, control or open_state(settings)), Configured.at(settings.bundle)
    desired = read(fleet) if wanted.name is None else None
    return desired or start(fleet, wanted.known(), time.time())


def to_prove(settings: Settings) -> Path:
    """Return the bundle to look at before anything is started: the configured one.

    Where the library's pointer leads nowhere, that is the one which the document of an earlier start names.

    Raises:
        BundleError: there is neither.
    """
    wanted = Configured.at(settings.bundle)
    if wanted.name is None:
        active = begin(settings).active
        _log.error("%s; serving bundle %s, which is active since an earlier start", wanted.why, active)
        return wanted.root / active
    return wanted.root / wanted.name


def try_begin(settings: Settings) -> Desired | None:
    """Begin, unless the store is away: then return None, and the first replica to reach it says it instead."""
    try:
        return begin(settings)
    except StoreUnavailable as error:
        _log.warning("control store away, starting with the configured bundle: %s", error)
        return None


def open_operator(settings: Settings, control: Control | None = None) -> Operator:
    """Return an operator of the fleet that these settings describe; it needs no replica in this process."""
    root = Configured.at(settings.bundle).root
    return Operator(
        _fleet(settings, control or open_state(settings)),
        Library(root, max_bytes=settings.bundles.max_bytes),
        now=time.time,
        new_salt=lambda: secrets.token_hex(_SALT_BYTES),
    )


def _fleet(settings: Settings, control: Control) -> Fleet:
    return Fleet(control, Configured.at(settings.bundle).root)
