"""A writer killed at random moments loses nothing and repeats nothing; and the script that says so would notice."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import chaos_events
import pytest

from retrank.serving.events import compact
from retrank.serving.events.records import EventRecord
from retrank.serving.events.segment_log import SegmentLog
from retrank.serving.events.tables import partition_of

pytestmark = pytest.mark.slow


def test_fifty_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    totals = chaos_events.run(trials=50, seed=11, round_size=25, parent=tmp_path)
    assert totals.trials == 50
    assert totals.acknowledged > 500
    assert totals.clean


class Hasty(SegmentLog):
    """Acknowledges before anything is written."""

    def append(self, records: Sequence[bytes]) -> Future[None]:
        super().append(records)
        at_once: Future[None] = Future()
        at_once.set_result(None)
        return at_once


def test_a_log_that_acknowledges_too_early_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_events, "SegmentLog", Hasty)
    assert chaos_events.run(trials=25, seed=11, round_size=25, parent=tmp_path).lost > 0


def test_a_job_that_repeats_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them(
        records: Iterable[EventRecord], published: Mapping[bytes, Sequence[int]]
    ) -> dict[str, list[EventRecord]]:
        return {partition_of(record): list(records) for record in records}

    monkeypatch.setattr(compact, "without_repetitions", all_of_them)
    assert chaos_events.run(trials=25, seed=11, round_size=25, parent=tmp_path).twice > 0
