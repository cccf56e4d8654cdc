"""A service with everything it can stand on: SQLite state, segment logs, a token key; all in one folder."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrank.contract.events import EventBatch
from retrank.serving.backing import open_backing
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.settings import ServiceSettings, Settings
from retrank.serving.stores.protocol import DEFAULT_TENANT
from retrank.serving.telemetry.facade import Telemetry

GENEROUS = ServiceSettings(deadline_ms=60_000, catalogue_refresh_s=0.01)
"""Deadlines that a shared machine never misses, so that answers are the same every time."""


@contextmanager
def living_service(
    recommender: Recommender,
    folder: Path,
    *,
    telemetry: Telemetry | None = None,
    settings: ServiceSettings = GENEROUS,
    **options: Any,
) -> Iterator[Service]:
    """Open a service over one recommender, and close it."""
    all_settings = Settings(bundle=folder / "bundles", service=settings.model_copy(update={"folder": folder / "state"}))
    backing = open_backing(all_settings, telemetry)
    service = Service(lambda _: Picked(recommender), backing, all_settings.service, **options)
    try:
        yield service
    finally:
        service.close()


def eventually(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until something holds; what a poll brings comes a moment later."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def posted(service: Service, *events: dict[str, Any], tenant: str = DEFAULT_TENANT) -> None:
    """Post events and see them accepted."""
    batch = EventBatch(events=[{"event_id": f"e{place}", **event} for place, event in enumerate(events)])
    intake = service.backing.intake
    assert intake is not None
    receipt = intake.begin(batch, tenant).result(30)
    assert receipt.rejected == []
    assert receipt.accepted == len(events)
