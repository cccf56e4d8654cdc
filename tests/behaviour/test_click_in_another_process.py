"""A click that was acknowledged is in the next answer of another process, whichever store they share."""

from pathlib import Path

import pytest
from bench_freshness import MissedError, another_replica, clicked, measure, settings_of
from state_backends import Backend

from retrank.serving.events.intake import open_intake
from retrank.serving.events.settings import EventSettings
from retrank.serving.stores.open_store import open_store


def test_every_click_is_in_the_next_answer_of_another_process_while_others_click_too(
    backend: Backend, tmp_path: Path
) -> None:
    found = measure(backend.url, tmp_path / "log", clicks=25, users=4, background=200.0)
    assert len(found) == 25
    assert all(0 < one.receipt_s < one.answer_s for one in found)


def test_a_process_that_reads_another_store_is_found_out(tmp_path: Path) -> None:
    store = open_store(settings_of(f"sqlite:{tmp_path / 'here.sqlite'}"))
    intake = open_intake(EventSettings(directory=tmp_path / "log"), store)
    with another_replica(f"sqlite:{tmp_path / 'there.sqlite'}") as other, pytest.raises(MissedError):
        clicked(intake, other, "ann", "e1")
    intake.close()
    store.close()
