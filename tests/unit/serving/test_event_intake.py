import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from event_worlds import NOON, DictProfiles, click, clicks, logged, logged_ids, raw_records

from retrank.contract.events import EventBatch
from retrank.serving.backing import open_backing
from retrank.serving.events.applied import read_applied, read_trusted, write_applied
from retrank.serving.events.applier import ApplierOptions
from retrank.serving.events.compact import compact
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.intake import Intake, Limits, Logs, Outside, open_intake
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.records import MAX_EVENT_BYTES, DeadLetter, Erasure, person_digest
from retrank.serving.events.recovery import recover
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
from retrank.serving.events.settings import EventSettings
from retrank.serving.events.tables import published_files, read_columns
from retrank.serving.settings import ServiceSettings, Settings
from retrank.serving.stores.protocol import PersonEvent
from retrank.serving.stores.settings import StateSettings
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
from retrank.serving.tokens import Claims, Signer

WAIT_S = 20
EAGER = ApplierOptions(retry_s=0.02, checkpoint_s=0.02, recover_s=0.02, idle_s=0.01)
MakeIntake = Callable[..., Intake]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeIntake]:
    """Open intakes on the folder of the test; those left open are closed at the end."""
    made: list[Intake] = []

    def open_one(profiles: DictProfiles, **more: Any) -> Intake:
        events = SegmentLog(tmp_path / "events", SegmentOptions(segment_bytes=more.pop("segment_bytes", 1 << 20)))
        logs = Logs(more.pop("log", events), SegmentLog(tmp_path / "rejected"), SegmentLog(tmp_path / "erasures"))
        made.append(Intake(logs, profiles, folder=events.folder, options=EAGER, **{"now": lambda: NOON} | more))
        return made[-1]

    yield open_one
    for intake in made:
        intake.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something another thread does."""
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail("it did not happen")


class HeldLog:
    """A log whose records become durable, or fail, when the test says so."""

    def __init__(self) -> None:
        self.appended: list[tuple[Sequence[bytes], Future[None]]] = []

    def append(self, records: Sequence[bytes]) -> Future[None]:
        future: Future[None] = Future()
        self.appended.append((records, future))
        return future

    def close(self) -> None:
        pass


def test_events_are_logged_then_applied_then_acknowledged(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    receipt = make(profiles).begin(clicks(1, 2, 3)).result(WAIT_S)
    assert (receipt.accepted, receipt.duplicates, receipt.rejected) == (3, 0, [])
    assert profiles.ids() == logged_ids(tmp_path) == ["e1", "e2", "e3"]


def test_nothing_is_applied_or_acknowledged_before_it_is_durable(make: MakeIntake) -> None:
    profiles, log = DictProfiles(), HeldLog()
    future = make(profiles, log=log).begin(clicks(1))
    until(lambda: len(log.appended) == 1)
    assert not future.done()
    assert profiles.ids() == []
    log.appended[0][1].set_result(None)
    assert future.result(WAIT_S).accepted == 1
    assert profiles.ids() == ["e1"]


def test_an_event_sent_again_is_a_duplicate_and_not_logged_again(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    intake = make(profiles)
    intake.begin(clicks(1, 2)).result(WAIT_S)
    receipt = intake.begin(clicks(2, 3, 3)).result(WAIT_S)
    assert (receipt.accepted, receipt.duplicates) == (1, 2)
    assert profiles.ids() == logged_ids(tmp_path) == ["e1", "e2", "e3"]


def test_the_same_id_from_another_person_or_tenant_is_another_event(make: MakeIntake, tmp_path: Path) -> None:
    intake = make(DictProfiles())
    assert intake.begin(clicks(1)).result(WAIT_S).accepted == 1
    assert intake.begin(clicks(1, user_id="bob")).result(WAIT_S).accepted == 1
    assert intake.begin(clicks(1), "other").result(WAIT_S).accepted == 1
    assert logged_ids(tmp_path) == ["e1"] * 3


def test_a_copy_of_an_event_under_way_waits_for_the_first(make: MakeIntake) -> None:
    log = HeldLog()
    intake = make(DictProfiles(), log=log)
    first = intake.begin(clicks(1))
    until(lambda: len(log.appended) == 1)
    second = intake.begin(clicks(1))
    third = intake.begin(clicks(1, 2))
    until(lambda: len(log.appended) == 2)
    assert not second.done()
    log.appended[0][1].set_exception(LogUnavailable("disk full"))
    log.appended[1][1].set_result(None)
    for future in (first, second, third):
        with pytest.raises(LogUnavailable, match="disk full"):
            future.result(WAIT_S)


def test_a_bad_event_does_not_stop_the_others_and_becomes_a_dead_letter(make: MakeIntake, tmp_path: Path) -> None:
    intake = make(DictProfiles())
    bad = [
        click(2, type="glance"),
        {"event_id": "e3", "type": "click", "item_id": "i"},
        click(4, at="2026-01-31T12:00:00"),
        click(5, at="2126-01-31T12:00:00Z"),
        click(6, colour="red"),
        click(7, context={"long": "x" * MAX_EVENT_BYTES}),
        click(8, type="custom"),
        click(9, item_id="\ud800"),
        click(10, event_id=17),
        click(11, value=float("nan")),
        click(12, **{"\ud800": 1}),
        click(13, type="custom", name="dismiss"),
    ]
    receipt = intake.begin(EventBatch(events=[click(1), *bad, click(14)])).result(WAIT_S)
    assert receipt.accepted == 2
    assert [(rejected.index, rejected.event_id) for rejected in receipt.rejected] == [
        (index, None if index == 9 else f"e{index + 1}") for index in range(1, 13)
    ]
    said = [rejected.detail for rejected in receipt.rejected]
    for expected, detail in zip(
        ["type: Input should be", "nobody did this", "no time zone", "in the future", "colour: Extra inputs",
         "65,6", "needs a name", "", "event_id", "value: ", "unicode string", "name: dismiss is a type"],
        said,
        strict=True,
    ):  # fmt: skip
        assert expected in detail
    intake.close()
    letters = [DeadLetter.model_validate_json(raw) for raw in raw_records(tmp_path / "rejected")]
    assert [letter.detail for letter in letters] == said
    assert letters[0].raw == bad[0]
    assert letters[5].raw is None  # too long to keep
    assert logged_ids(tmp_path) == ["e1", "e14"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"at": "0001-01-01T00:00:00Z"}, "3,650 days ago"),
        ({"at": "1970-01-01T00:00:00Z"}, "3,650 days ago"),
        ({"at": "2016-02-01T00:00:00Z"}, "3,650 days ago"),
        ({"at": "2016-02-10T00:00:00Z"}, None),
        ({"at": "2026-02-02T04:00:00Z"}, "in the future"),
        ({"at": "9999-12-31T23:59:59Z"}, "in the future"),
        ({"at": "9999-12-31T23:59:59-23:59"}, ""),
        ({"value": 1e308}, "value: expected -1e+12 to 1e+12"),
        ({"value": -1.1e12}, "value: expected -1e+12 to 1e+12"),
        ({"value": 1e12}, None),
        ({"value": -3.5}, None),
    ],
)
def test_a_time_or_a_value_that_cannot_be_meant_is_rejected(
    make: MakeIntake, said: dict[str, object], why: str | None
) -> None:
    receipt = make(DictProfiles()).begin(EventBatch(events=[click(1, **said)])).result(WAIT_S)
    assert receipt.accepted == (1 if why is None else 0)
    assert why is None or why in receipt.rejected[0].detail


def test_how_old_an_event_may_be_is_a_setting(tmp_path: Path) -> None:
    settings = EventSettings(directory=tmp_path, max_age_days=2.0)
    intake = open_intake(settings, DictProfiles())
    hours = [24.0, 72.0]
    events = [
        click(n, at=datetime.fromtimestamp(time.time() - 3_600 * h, UTC).isoformat()) for n, h in enumerate(hours)
    ]
    receipt = intake.begin(EventBatch(events=events)).result(WAIT_S)
    intake.close()
    assert [rejected.index for rejected in receipt.rejected] == [1]
    assert "2 days ago" in receipt.rejected[0].detail


def test_a_token_is_held_against_the_key_and_the_tenant(make: MakeIntake, tmp_path: Path) -> None:
    signer = Signer(bytes(32))
    claims = Claims(id="r1", bundle="b1", tenant="default", person="", at=int(NOON))
    ours = signer.sign(claims)
    brought = {
        1: ours,
        2: None,
        3: Signer(bytes(31) + b"\1").sign(claims),
        4: signer.sign(claims.model_copy(update={"tenant": "other"})),
        5: ours[:-1],
        6: "anything at all",
    }
    intake = make(DictProfiles(), outside=Outside(signer.has_signed))
    events = [click(number, recommendation_token=token) for number, token in brought.items()]
    assert intake.begin(EventBatch(events=events)).result(WAIT_S).accepted == 6
    intake.close()
    assert [record.attributed for record in logged(tmp_path)] == [True, None, False, False, False, False]
    compact(tmp_path, now=lambda: NOON)
    (path,) = published_files(tmp_path / "parquet")
    assert read_columns(path)["attributed"].to_pylist() == [True, None, False, False, False, False]


def test_the_time_of_an_event_is_the_stated_one_or_its_arrival(make: MakeIntake) -> None:
    profiles = DictProfiles()
    intake = make(profiles)
    stated = datetime(2026, 1, 31, 12, tzinfo=UTC)
    intake.begin(EventBatch(events=[click(1), click(2, at=stated.isoformat())])).result(WAIT_S)
    assert [event.time_us for event in profiles.effects["default", "u:ann"]] == [
        int(NOON * 1e6),
        int(stated.timestamp() * 1e6),
    ]


def test_while_the_profile_store_is_away_events_are_accepted_and_applied_later(
    make: MakeIntake, tmp_path: Path
) -> None:
    profiles = DictProfiles()
    intake = make(profiles, segment_bytes=1_000)
    intake.begin(clicks(0)).result(WAIT_S)
    profiles.away = True
    for number in range(1, 40):
        assert intake.begin(clicks(number)).result(WAIT_S).accepted == 1
    assert intake.behind
    assert profiles.ids() == ["e0"]
    profiles.away = False
    until(lambda: not intake.behind)
    intake.begin(clicks(40)).result(WAIT_S)
    assert profiles.ids() == logged_ids(tmp_path) == sorted(f"e{number}" for number in range(41))
    assert [event.event_id for event in profiles.effects["default", "u:ann"]] == [f"e{number}" for number in range(41)]


def test_how_far_the_profiles_are_behind_is_told_until_they_have_everything(make: MakeIntake) -> None:
    told: list[float] = []
    profiles, now = DictProfiles(), [NOON]
    intake = make(profiles, outside=Outside(log_lag=told.append), now=lambda: now[0])
    intake.begin(clicks(1)).result(WAIT_S)
    until(lambda: told[-1:] == [0.0])
    profiles.away = True
    intake.begin(clicks(2)).result(WAIT_S)
    now[0] += 90
    intake.begin(clicks(3)).result(WAIT_S)
    until(lambda: told[-1] == 90.0)
    profiles.away = False
    until(lambda: told[-1] == 0.0)
    assert profiles.ids() == ["e1", "e2", "e3"]


def test_a_store_that_fails_in_an_unforeseen_way_stops_no_acknowledgement(make: MakeIntake) -> None:
    class Broken(DictProfiles):
        def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
            if self.away:
                raise RuntimeError("a mistake in the store")
            return super().apply(tenant, events, now)

    profiles = Broken()
    profiles.away = True
    intake = make(profiles)
    assert intake.begin(clicks(1)).result(WAIT_S).accepted == 1
    profiles.away = False
    until(lambda: profiles.ids() == ["e1"])


def test_what_a_killed_writer_left_is_applied_once_by_the_next_one(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    profiles.away = True
    first = make(profiles, segment_bytes=500)
    for number in range(20):
        first.begin(clicks(number)).result(WAIT_S)
    first.close()
    profiles.away = False
    (folder,) = writers(tmp_path / "events")
    assert read_applied(folder) == 0
    make(profiles)
    until(lambda: read_applied(folder) == 20)
    assert profiles.ids() == sorted(f"e{number}" for number in range(20))


def test_a_mark_that_lags_does_no_harm(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    first = make(profiles)
    first.begin(clicks(*range(10))).result(WAIT_S)
    first.close()
    (folder,) = writers(tmp_path / "events")
    write_applied(folder, 3)
    make(profiles)
    until(lambda: read_applied(folder) == 10)
    assert profiles.ids() == sorted(f"e{number}" for number in range(10))


def test_after_a_reboot_everything_left_is_applied_again(make: MakeIntake, tmp_path: Path) -> None:
    first = make(DictProfiles())
    first.begin(clicks(*range(10))).result(WAIT_S)
    first.close()
    (folder,) = writers(tmp_path / "events")
    (folder / "applied").write_text("10 another-run-of-the-kernel\n")
    lost_everything = DictProfiles()
    make(lost_everything)
    until(lambda: read_trusted(folder) == 10)
    assert lost_everything.ids() == sorted(f"e{number}" for number in range(10))


def test_a_torn_end_is_what_was_never_acknowledged(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    profiles.away = True
    first = make(profiles)
    for number in range(5):
        first.begin(clicks(number)).result(WAIT_S)
    first.close()
    profiles.away = False
    (folder,) = writers(tmp_path / "events")
    (path,) = segments(folder)
    path.write_bytes(path.read_bytes()[:-40])
    make(profiles)
    until(lambda: read_applied(folder) == 4)
    assert profiles.ids() == ["e0", "e1", "e2", "e3"]


def test_damage_is_reported_and_does_not_stop_the_service(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    profiles.away = True
    first = make(profiles)
    first.begin(clicks(*range(5))).result(WAIT_S)
    first.close()
    profiles.away = False
    (folder,) = writers(tmp_path / "events")
    (path,) = segments(folder)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    intake = make(profiles)
    until(lambda: bool(intake.tally.damaged))
    assert "damaged record at byte" in intake.tally.damaged[0]
    assert intake.begin(clicks(9)).result(WAIT_S).accepted == 1


def test_erasing_a_person_reaches_profiles_and_log_in_order(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    intake = make(profiles)
    intake.begin(clicks(1, 2))
    intake.erase("default", "u:ann")
    intake.begin(clicks(3)).result(WAIT_S)
    assert profiles.ids() == ["e3"]
    assert [record.erase for record in logged(tmp_path)] == [None, None, "u:ann", None]
    (note,) = (Erasure.model_validate_json(raw) for raw in raw_records(tmp_path / "erasures"))
    assert note == Erasure(tenant="default", person_sha256=person_digest("default", "u:ann"), erased_us=int(NOON * 1e6))
    assert b"ann" not in raw_records(tmp_path / "erasures")[0]


def test_recovery_does_not_bring_back_who_was_erased_meanwhile(make: MakeIntake, tmp_path: Path) -> None:
    profiles = DictProfiles()
    profiles.away = True
    first = make(profiles)
    first.begin(EventBatch(events=[click(1), click(2, user_id="bob")])).result(WAIT_S)
    first.close()
    note = Erasure(tenant="default", person_sha256=person_digest("default", "u:ann"), erased_us=int(NOON * 1e6))
    erasures = SegmentLog(tmp_path / "erasures")
    erasures.append([note.encode()]).result(WAIT_S)
    erasures.close()
    profiles.away = False
    (folder,) = writers(tmp_path / "events")
    make(profiles)
    until(lambda: read_applied(folder) == 2)
    assert profiles.ids() == ["e2"]


@pytest.mark.parametrize("compacted", [False, True], ids=["in segments", "published"])
def test_an_erasure_that_is_recovered_late_leaves_what_arrived_after_it(
    make: MakeIntake, tmp_path: Path, compacted: bool
) -> None:
    profiles = DictProfiles()
    first = make(profiles)
    first.begin(EventBatch(events=[click(1), click(2, user_id="bob")])).result(WAIT_S)
    first.erase("default", "u:ann").result(WAIT_S)
    first.close()
    second = make(profiles, now=lambda: NOON + 1)
    second.begin(EventBatch(events=[click(3), click(4, type="custom", name="pin")])).result(WAIT_S)
    second.close()
    if compacted:
        assert compact(tmp_path, now=lambda: NOON).published == 3
        assert logged_ids(tmp_path) == []
        first = make(DictProfiles())
        first.erase("default", "u:ann").result(WAIT_S)
        first.close()
    (folder, *_) = writers(tmp_path / "events")
    (folder / "applied").write_text("3 another-run-of-the-kernel\n")
    recover(tmp_path, profiles, lambda: NOON + 2)
    assert profiles.ids() == ["e2", "e3", "e4"]
    assert {event.kind for event in profiles.effects["default", "u:ann"]} == {"click", "pin"}


def test_an_erasure_made_up_for_after_an_outage_leaves_what_another_replica_applied(make: MakeIntake) -> None:
    near, far = DictProfiles(), DictProfiles()
    near.effects = far.effects  # one store; only one replica is cut off from it
    one, other = make(near), make(far, now=lambda: NOON + 1)
    one.begin(clicks(1)).result(WAIT_S)
    near.away = True
    one.erase("default", "u:ann").result(WAIT_S)
    other.begin(clicks(2)).result(WAIT_S)
    near.away = False
    until(lambda: not one.behind)
    assert far.ids() == ["e2"]


def test_an_erasure_while_the_store_is_away_is_made_up_for(make: MakeIntake) -> None:
    profiles = DictProfiles()
    intake = make(profiles)
    intake.begin(clicks(1)).result(WAIT_S)
    profiles.away = True
    intake.erase("default", "u:ann").result(WAIT_S)
    assert profiles.ids() == ["e1"]
    profiles.away = False
    until(lambda: profiles.ids() == [])


def test_without_a_folder_an_erasure_that_does_not_happen_is_not_acknowledged(tmp_path: Path) -> None:
    profiles = DictProfiles()
    profiles.away = True
    intake = Intake(Logs(SegmentLog(tmp_path)), profiles, options=EAGER, now=lambda: NOON)
    assert intake.begin(clicks(1)).result(WAIT_S).accepted == 1
    with pytest.raises(LogUnavailable, match="nobody was erased; try again"):
        intake.erase("default", "u:ann").result(WAIT_S)
    intake.close()
    assert intake.tally.unapplied == 2


def test_too_many_events_under_way_are_refused_at_once(make: MakeIntake) -> None:
    log = HeldLog()
    intake = make(DictProfiles(), log=log, limits=Limits(max_pending=5))
    accepted = intake.begin(clicks(1, 2, 3))
    refused = intake.begin(clicks(4, 5, 6))
    assert refused.done()
    with pytest.raises(LogUnavailable, match="no more fit"):
        refused.result(0)
    until(lambda: len(log.appended) == 1)
    log.appended[0][1].set_result(None)
    accepted.result(WAIT_S)
    until(lambda: not intake.begin(clicks(7, 8, 9)).done())
    until(lambda: len(log.appended) == 2)
    log.appended[1][1].set_result(None)


def test_a_closed_intake_answered_everything_and_refuses(make: MakeIntake) -> None:
    intake = make(DictProfiles())
    futures = [intake.begin(clicks(number)) for number in range(50)]
    intake.close()
    assert [future.result(0).accepted for future in futures] == [1] * 50
    with pytest.raises(LogUnavailable, match="closed"):
        intake.begin(clicks(51)).result(0)


def test_an_event_loop_goes_on_while_the_disk_works(make: MakeIntake) -> None:
    log = HeldLog()
    intake = make(DictProfiles(), log=log)

    async def scenario() -> int:
        taking = asyncio.ensure_future(intake.take(clicks(1)))
        while not log.appended:
            await asyncio.sleep(0.001)
        assert not taking.done()  # and this line runs
        log.appended[0][1].set_result(None)
        return (await taking).accepted

    assert asyncio.run(asyncio.wait_for(scenario(), WAIT_S)) == 1


def test_a_caller_who_leaves_changes_nothing(make: MakeIntake) -> None:
    profiles, log = DictProfiles(), HeldLog()
    intake = make(profiles, log=log)

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(intake.take(clicks(1)), 0.05)

    asyncio.run(scenario())
    until(lambda: len(log.appended) == 1)
    log.appended[0][1].set_result(None)
    until(lambda: profiles.ids() == ["e1"])


def test_an_intake_is_opened_from_settings(tmp_path: Path) -> None:
    profiles = DictProfiles()
    intake = open_intake(EventSettings(directory=tmp_path), profiles)
    intake.begin(clicks(1)).result(WAIT_S)
    intake.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["erasures", "events", "rejected"]
    assert logged_ids(tmp_path) == profiles.ids() == ["e1"]


def test_a_service_holds_tokens_against_its_key_and_shows_how_far_behind_it_is(tmp_path: Path) -> None:
    telemetry = PrometheusTelemetry()
    nobody_there = StateSettings.model_validate({"url": "redis://127.0.0.1:1/0", "timeout_s": 0.05})
    service = ServiceSettings(folder=tmp_path)
    backing = open_backing(Settings(bundle=tmp_path, service=service, state=nobody_there), telemetry)
    intake = backing.intake
    assert intake is not None
    ours = backing.signer.sign(Claims(id="r1", bundle="b1", tenant="default", person="", at=int(NOON)))
    assert intake.begin(clicks(1, recommendation_token=ours)).result(WAIT_S).accepted == 1
    until(lambda: (telemetry.registry.get_sample_value("recsys_event_log_lag_seconds") or 0.0) > 0)
    intake.close()
    backing.decisions.close()
    (stream,) = tmp_path.glob("**/events")
    assert [record.attributed for record in logged(stream.parent)] == [True]
