import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from event_worlds import DAY_S, NOON, DictProfiles, click, raw_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrank.config import compose, instantiate, resolve
from retrank.contract.errors import DataError, SourceError
from retrank.contract.events import Event
from retrank.data.ingest import ingest
from retrank.serving.events import publish
from retrank.serving.events.applied import write_applied
from retrank.serving.events.compact import Summary, compact
from retrank.serving.events.erasures import proofs, read_erasures
from retrank.serving.events.folders import segments, writers
from retrank.serving.events.records import Erasure, encode_event, event_bytes, person_digest
from retrank.serving.events.replay import replay
from retrank.serving.events.segment import SegmentReader
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
from retrank.serving.events.tables import SCHEMA, published_files

WAIT_S = 20
NOON_US = int(NOON * 1e6)
DAY_US = DAY_S * 1_000_000
Logged = tuple[int, int]  # number of the event, and when it arrived, in days after NOON


def write(directory: Path, *events: dict[str, object], day: float = 0.0, close: bool = True) -> SegmentLog:
    """Log events as a writer of their own, that all arrived on one day."""
    log = SegmentLog(directory / "events", SegmentOptions(segment_bytes=1_000))
    arrived_us = NOON_US + int(day * DAY_US)
    for n, raw in enumerate(events):
        encoded = event_bytes(Event.model_validate(raw))
        log.append([encode_event(encoded, n=n, tenant="default", arrived_us=arrived_us + n)]).result(WAIT_S)
    if close:
        log.close()
    return log


def erase(directory: Path, person: str, day: float) -> None:
    log = SegmentLog(directory / "erasures")
    moment = NOON_US + int(day * DAY_US)
    note = Erasure(tenant="default", person_sha256=person_digest("default", person), erased_us=moment)
    log.append([note.encode()]).result(WAIT_S)
    log.close()


def run(directory: Path) -> Summary:
    return compact(directory, now=lambda: NOON)


def published(directory: Path) -> list[tuple[str, str]]:
    """Return (date, event_id) of everything that is published, sorted."""
    return sorted(
        (path.parent.name.removeprefix("date="), event_id)
        for path in published_files(directory / "parquet")
        for event_id in pq.ParquetFile(path).read(["event_id"])["event_id"].to_pylist()
    )


def everything(directory: Path) -> dict[str, bytes]:
    """Return the published files and the proof, byte by byte."""
    paths = [*published_files(directory / "parquet"), *(directory / "erasures").glob("proof.jsonl")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_closed_segments_become_partitions_by_day_of_arrival(tmp_path: Path) -> None:
    write(tmp_path, click(1), click(2))
    write(tmp_path, click(3, at="2026-01-01T00:00:00Z"), day=1)
    summary = run(tmp_path)
    today = datetime.fromtimestamp(NOON, UTC).date()
    tomorrow = date.fromordinal(today.toordinal() + 1)
    assert published(tmp_path) == [(f"{today}", "e1"), (f"{today}", "e2"), (f"{tomorrow}", "e3")]
    assert (summary.read, summary.published, summary.repeated) == (3, 3, 0)
    assert list((tmp_path / "events").iterdir()) == []


def test_every_field_has_a_typed_column(tmp_path: Path) -> None:
    full = click(
        1, type="custom", name="zoom", anonymous_id="cookie", session_id="s", at="2026-01-31T13:00:00+01:00",
        value=2.5, recommendation_token="token", placement="home", context={"position": 3, "colours": ["red"]},
    )  # fmt: skip
    write(tmp_path, full)
    run(tmp_path)
    (path,) = published_files(tmp_path / "parquet")
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(SCHEMA)
    (row,) = table.to_pylist()
    key = row.pop("key")
    assert len(key) == 16
    assert row == full | {
        "tenant": "default",
        "person": "u:ann",
        "attributed": None,
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "arrived_at": datetime.fromtimestamp(NOON, UTC),
        "context": '{"colours": ["red"], "position": 3}',
    }


def test_ids_with_a_zero_byte_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, click(1, user_id="a", event_id="b\0c"), click(2, user_id="a\0b", event_id="c"))
    assert run(tmp_path).published == 2


def test_the_segment_that_is_being_written_waits(tmp_path: Path) -> None:
    log = write(tmp_path, *(click(number) for number in range(12)), close=False)
    run(tmp_path)
    (left,) = segments(log.folder)
    first = published(tmp_path)
    assert 0 < len(first) < 12
    log.close()
    assert not left.exists() or run(tmp_path).segments == 1
    assert [event_id for _, event_id in published(tmp_path)] == sorted(f"e{number}" for number in range(12))


def test_a_segment_waits_until_the_profiles_have_all_of_it(tmp_path: Path) -> None:
    log = write(tmp_path, *(click(number) for number in range(12)))
    write_applied(log.folder, 6)
    summary = run(tmp_path)
    assert summary.waiting
    assert len(published(tmp_path)) <= 6
    assert segments(log.folder) == summary.waiting
    write_applied(log.folder, 12)
    assert run(tmp_path).waiting == []
    assert len(published(tmp_path)) == 12
    assert not log.folder.exists()


@pytest.mark.parametrize(("days", "copies"), [(0, 1), (6.9, 1), (7.1, 2)])
def test_a_repetition_within_seven_days_is_dropped_whenever_it_is_compacted(
    tmp_path: Path, days: float, copies: int
) -> None:
    for directory, compacted_between in ((tmp_path / "one", False), (tmp_path / "two", True)):
        write(directory, click(1))
        if compacted_between:
            run(directory)
        write(directory, click(1), day=days)
        run(directory)
        assert [event_id for _, event_id in published(directory)] == ["e1"] * copies


def test_what_arrived_earlier_may_be_compacted_later(tmp_path: Path) -> None:
    write(tmp_path, click(1), day=5)
    run(tmp_path)
    write(tmp_path, click(1), click(2), day=0)
    assert run(tmp_path).repeated == 1
    assert [event_id for _, event_id in published(tmp_path)] == ["e2", "e1"]


def test_equal_ids_of_different_people_are_different_events(tmp_path: Path) -> None:
    write(tmp_path, click(1), click(1, user_id="bob"), click(1, user_id=None, anonymous_id="ann"))
    assert run(tmp_path).published == 3


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=5),
    compacted=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_when_compaction_runs_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, days: list[list[int]], compacted: list[bool]
) -> None:
    """The oracle reads everything at once; the job runs after some of the writers."""
    directory = tmp_path_factory.mktemp("log")
    for day, (numbers, now) in enumerate(zip(days, compacted, strict=False)):
        write(directory, *(click(number) for number in numbers), day=3 * day)
        if now:
            run(directory)
    run(directory)
    expected: Counter[str] = Counter()
    last: dict[int, float] = {}
    for day, numbers in enumerate(days):
        for n, number in enumerate(numbers):
            moment = 3 * day * DAY_US + n
            if number not in last or moment - last[number] >= 7 * DAY_US:
                expected[f"e{number}"] += 1
                last[number] = moment
    assert Counter(event_id for _, event_id in published(directory)) == expected


def test_an_erased_person_disappears_and_the_proof_says_so(tmp_path: Path) -> None:
    write(tmp_path, click(1), click(2, user_id="bob"), click(3))
    write(tmp_path, click(4), day=1)
    run(tmp_path)
    write(tmp_path, click(5), day=1.5)  # not compacted yet
    erase(tmp_path, "u:ann", day=2)
    write(tmp_path, click(6), day=3)
    summary = run(tmp_path)
    assert [event_id for _, event_id in published(tmp_path)] == ["e2", "e6"]
    assert (summary.erased, summary.erasures_done) == (1, 1)
    (proof,) = proofs(tmp_path)
    assert proof.person_sha256 == person_digest("default", "u:ann")
    assert (proof.events_removed, len(proof.files_rewritten)) == (3, 2)
    assert b"ann" not in (tmp_path / "erasures" / "proof.jsonl").read_bytes()
    assert writers(tmp_path / "erasures") == []  # the line stands for the record


def test_an_erasure_counts_for_segments_that_are_compacted_long_after_it(tmp_path: Path) -> None:
    late = write(tmp_path, *(click(number) for number in range(3)), close=False)
    erase(tmp_path, "u:ann", day=2)
    run(tmp_path)
    late.close()
    assert run(tmp_path).erased == 3
    assert published(tmp_path) == []
    assert read_erasures(tmp_path).cover("default", "u:ann", NOON_US)


def test_erasing_again_removes_what_came_in_between(tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path, click(day), day=2 * day)
        erase(tmp_path, "u:ann", day=2 * day + 1)
        if day == 1:
            run(tmp_path)
    run(tmp_path)
    assert published(tmp_path) == []
    assert [proof.erased_us for proof in proofs(tmp_path)] != sorted({0})
    assert len(proofs(tmp_path)) == 3


def test_tenants_have_partitions_of_their_own(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "events")
    encoded = event_bytes(Event.model_validate(click(1)))
    for n, tenant in enumerate(["../shop", "default"]):
        log.append([encode_event(encoded, n=n, tenant=tenant, arrived_us=NOON_US)]).result(WAIT_S)
    log.close()
    run(tmp_path)
    found = [path.relative_to(tmp_path / "parquet").parts[0] for path in published_files(tmp_path / "parquet")]
    assert found == ["tenant=..%2Fshop", "tenant=default"]


def test_a_person_of_another_tenant_is_another_person(tmp_path: Path) -> None:
    write(tmp_path, click(1))
    run(tmp_path)
    log = SegmentLog(tmp_path / "erasures")
    note = Erasure(tenant="other", person_sha256=person_digest("other", "u:ann"), erased_us=NOON_US + DAY_US)
    log.append([note.encode()]).result(WAIT_S)
    log.close()
    run(tmp_path)
    assert len(published(tmp_path)) == 1
    assert proofs(tmp_path)[0].events_removed == 0


def test_a_damaged_segment_is_left_whole_and_named(tmp_path: Path) -> None:
    log = write(tmp_path, *(click(number) for number in range(12)))
    first, *rest = segments(log.folder)
    left_out = len(list(SegmentReader(first)))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 0x10
    first.write_bytes(content)
    summary = run(tmp_path)
    assert len(summary.damaged) == 1
    assert "damaged record" in summary.damaged[0]
    assert segments(log.folder) == [first]
    assert len(published(tmp_path)) == summary.published == 12 - left_out
    assert rest


def test_a_damaged_partition_stops_the_job(tmp_path: Path) -> None:
    write(tmp_path, click(1))
    run(tmp_path)
    (path,) = published_files(tmp_path / "parquet")
    path.write_bytes(path.read_bytes()[:100])
    write(tmp_path, click(2))
    with pytest.raises(SourceError, match="damaged"):
        run(tmp_path)
    assert len(writers(tmp_path / "events")) == 1


def test_only_one_compaction_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, click(1))
    said = []

    def another(root: Path, directory: Path) -> bool:
        with pytest.raises(DataError, match="another compaction is at work") as caught:
            run(tmp_path)
        said.append(caught)
        return False

    with monkeypatch.context() as patched:
        patched.setattr("retrank.serving.events.compact.finish", another)
        run(tmp_path)
    assert said


def _die_at(directory: str, step: int) -> None:
    """Compact, and die at the step-th file operation, as a killed process would."""
    left = [step]

    def counted(name: str) -> None:
        real = getattr(os, name)

        def operation(*arguments: object, **more: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return real(*arguments, **more)

        setattr(os, name, operation)

    for name in ("replace", "unlink", "fsync", "rename", "mkdir", "rmdir"):
        counted(name)
    run(Path(directory))
    os._exit(0)


def _prepare(directory: Path) -> None:
    write(directory, *(click(n, user_id=f"u{n % 3}") for n in range(8)))
    run(directory)
    write(directory, *(click(n, user_id=f"u{n % 3}") for n in range(4, 12)), day=1)
    erase(directory, "u:u1", day=2)


def _outcome(directory: Path) -> tuple[Sequence[object], Sequence[object]]:
    """Return rows and proof; names of files follow from names of writers, which are new each time."""
    return published(directory), [(proof.person_sha256, proof.events_removed) for proof in proofs(directory)]


def _dies_and_runs_again(folder: Path, steps: Sequence[int]) -> None:
    _prepare(folder / "whole")
    run(folder / "whole")
    expected = _outcome(folder / "whole")
    assert len(expected[0]) == 8
    for step in steps:
        directory = folder / f"{step}"
        _prepare(directory)
        process = multiprocessing.get_context("fork").Process(target=_die_at, args=(str(directory), step))
        process.start()
        process.join(WAIT_S)
        run(directory)
        assert _outcome(directory) == expected
        again = everything(directory)
        run(directory)
        assert everything(directory) == again
        assert list((directory / "events").iterdir()) == []
        assert not list((directory / "parquet").glob("_staging*"))
        if process.exitcode == 0:
            assert step > 10
            return
    assert process.exitcode == 9


def test_a_job_that_dies_and_runs_again_gives_the_same_result(tmp_path: Path) -> None:
    _dies_and_runs_again(tmp_path, [0, 9, 14, 23, 36, 41])


@pytest.mark.slow
def test_a_job_that_dies_at_any_step_and_runs_again_gives_the_same_result(tmp_path: Path) -> None:
    _dies_and_runs_again(tmp_path, range(300))


def test_events_come_back_as_training_data(tmp_path: Path) -> None:
    write(tmp_path, *(click(n, user_id=f"u{n % 3}", item_id=f"i{n}", value=float(n)) for n in range(9)))
    write(tmp_path, click(3, user_id="u0"), click(20, user_id="u9", type="purchase"), day=1)  # the first is known
    run(tmp_path)
    write(tmp_path, click(21, user_id=None, session_id="u0"), click(22, type="impression", user_id="u0"), day=1)
    write(tmp_path, click(23, user_id="u9", type="custom", name="zoom"), click(24, user_id="u9", name="hero"), day=1)
    run(tmp_path)
    config = resolve(compose("ingest", ["data=live_events", f"data.path={tmp_path / 'parquet'}"]))
    store = ingest(instantiate(config["data"]), tmp_path / "store")
    assert (store.users.ids, store.visitors.ids) == (["u0", "u1", "u2", "u9"], ["s:u0"])
    items = [store.items.ids_of(rows) for rows in store.sequences]
    assert items[:3] == [["i0", "i3", "i6"], ["i1", "i4", "i7"], ["i2", "i5", "i8"]]
    assert (sorted(items[3]), items[4]) == (["i2", "i3", "i6"], ["i0"])
    assert store.action_counts() == {"click": 11, "purchase": 1, "zoom": 1, "": 0}


def test_a_replay_fills_an_empty_store_from_tables_and_segments(tmp_path: Path) -> None:
    write(tmp_path, click(1), click(2), click(3, user_id="bob"))
    run(tmp_path)
    write(tmp_path, click(2), click(4, type="custom", name="zoom"), day=1)
    erase(tmp_path, "u:bob", day=2)
    profiles = DictProfiles()
    done = replay(tmp_path, tmp_path / "parquet", profiles, now=lambda: NOON)
    assert (done.read, done.new) == (4, 3)
    assert profiles.ids() == ["e1", "e2", "e4"]
    assert [event.kind for event in profiles.effects["default", "u:ann"]] == ["click", "click", "zoom"]
    again = replay(tmp_path, tmp_path / "parquet", profiles, since_us=NOON_US + DAY_US, now=lambda: NOON)
    assert (again.read, again.new) == (2, 0)


def test_a_change_is_decided_by_one_rename(tmp_path: Path) -> None:
    assert not publish.finish(tmp_path, tmp_path)
    (publish.staging(tmp_path) / "half.parquet").write_bytes(b"half")
    assert not publish.finish(tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_decisions_and_dead_letters_are_forgotten(tmp_path: Path) -> None:
    for stream in ("decisions", "rejected"):
        for age_s in (0.0, 40.0 * DAY_S):
            log = SegmentLog(tmp_path / stream)
            log.append([b'{"kept":%d}' % (age_s == 0)]).result(WAIT_S)
            log.close()
            os.utime(segments(log.folder)[0], (NOON - age_s, NOON - age_s))
    run(tmp_path)
    for stream in ("decisions", "rejected"):
        assert raw_records(tmp_path / stream) == [b'{"kept":1}']
        assert len(writers(tmp_path / stream)) == 1


def test_without_a_log_there_is_nothing_to_compact(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        run(tmp_path / "missing")
