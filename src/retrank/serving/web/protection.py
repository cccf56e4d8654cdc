"""What stands around the routes: counting, then who may come in. One object, so that `create_app` takes one argument.

Metered ▸ Traced ▸ RequestIds ▸ Guarded ▸ LastResort ▸ Head ▸ Direct ▸ routes
"""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from opentelemetry.trace import Tracer

from retrank.serving.guard.drain import FOLDER_VARIABLE, Drain
from retrank.serving.guard.gate import Gate
from retrank.serving.guard.keyring import Keyring
from retrank.serving.guard.keys import pepper_from
from retrank.serving.guard.settings import GuardSettings
from retrank.serving.telemetry.exposition import Exposition, share
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.telemetry.traces import open_tracer
from retrank.serving.web.guarded import Guarded
from retrank.serving.web.metered import Metered, add_metrics
from retrank.serving.web.traced import Traced

_METRICS = "metrics"


class Protection(NamedTuple):
    """What stands around the routes.

    Attributes:
        gate: lets requests in; None lets in everything at once.
        telemetry: what the service says about itself.
        exposition: text of `GET /metrics`; None has no such route.
        tracer: makes spans; None makes none.
    """

    gate: Gate | None = None
    telemetry: Telemetry = Telemetry()
    exposition: Exposition | None = None
    tracer: Tracer | None = None


OPEN = Protection()
"""Nothing is refused and nothing counted: for use in one process."""


def open_protection(settings: GuardSettings, said: TelemetrySettings, environment: Mapping[str, str]) -> Protection:
    """Return what stands around the routes of one replica.

    Args:
        settings: limits, keys and breakers.
        said: what the service says about itself.
        environment: names the folder that the replicas of this host share, and the pepper of the keys.

    Raises:
        ConfigError: the key file cannot be used, or the package for a destination of spans is missing.
    """
    home = environment.get(FOLDER_VARIABLE)
    folder = Path(home) / _METRICS if home else None
    if folder is not None:
        share(folder)
    telemetry = PrometheusTelemetry()
    gate = open_gate(settings, environment, telemetry)
    return Protection(gate, telemetry, Exposition(telemetry.registry, folder, now=time.time), open_tracer(said))


def open_gate(settings: GuardSettings, environment: Mapping[str, str], telemetry: Telemetry) -> Gate:
    """Return the gate of one process; without a key file it lets everybody in.

    Raises:
        ConfigError: the key file cannot be used.
    """
    key_file = settings.auth.key_file
    return Gate(
        settings,
        keyring=None if key_file is None else Keyring(key_file, pepper=pepper_from(environment), clock=time.monotonic),
        drain=Drain.of(environment),
        clock=time.monotonic,
        rng=random.Random(),
        telemetry=telemetry,
    )


def guard(app: FastAPI, protection: Protection) -> None:
    """Put the gate in front of the routes; add the middleware that names requests after this."""
    if protection.gate is not None:
        app.add_middleware(Guarded, gate=protection.gate)


def meter(app: FastAPI, protection: Protection) -> None:
    """Count everything that was added before, and show the counts; only `RawPaths` may be added after this."""
    if protection.tracer is not None:
        app.add_middleware(Traced, tracer=protection.tracer)
    if protection.exposition is not None:
        app.add_middleware(Metered, telemetry=protection.telemetry)
        add_metrics(app, protection.exposition)
