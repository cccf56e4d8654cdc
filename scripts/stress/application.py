"""The real application in this process: gate, metrics, state store, event and decision logs; no server around it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from starlette.types import ASGIApp

from retrank.serving.backing import open_backing
from retrank.serving.events.settings import EventSettings
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.settings import ServiceSettings, Settings
from retrank.serving.stores.settings import StateSettings
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.web.protection import open_protection
from retrank.serving.web.routes import create_app


def open_settings(
    bundle: Path, folder: Path, *, state_url: str | None = None, logs: Path | None = None, **others: object
) -> Settings:
    """Return settings with everything below one folder, except what is named; `others` are fields of `Settings`."""
    state = {} if state_url is None else {"state": StateSettings(url=SecretStr(state_url))}
    events = {} if logs is None else {"events": EventSettings(directory=logs)}
    values = {"bundle": bundle, "service": ServiceSettings(folder=folder), **state, **events, **others}
    return Settings.model_validate(values)


@contextmanager
def application(
    settings: Settings, changed: Callable[[Recommender], Recommender] = lambda opened: opened
) -> Iterator[tuple[ASGIApp, Service]]:
    """Open the application, and close it; `changed` may put something in the way of the opened recommender."""
    protection = open_protection(settings.guard, TelemetrySettings(), {})
    recommender = changed(Recommender.open(settings.bundle, settings.pipeline))
    recommender.tally.telemetry = protection.telemetry
    picked = Picked(recommender)
    service = Service(lambda _: picked, open_backing(settings, protection.telemetry), settings.service)
    service.warm_up()
    try:
        yield create_app(service, protection=protection), service
    finally:
        service.close()
