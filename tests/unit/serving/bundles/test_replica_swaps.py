"""A replica follows the desired state; what is bad never answers, or not for long."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from broken_parts import BrokenEncoder
from pydantic import JsonValue
from reference_store import ReferenceStore
from swap_world import QUICK, World

from retrank.contract.api import Degraded, RecommendRequest, SimilarRequest
from retrank.contract.bundle import FILES, ITEM_VECTORS, MANIFEST, seal, seal_files, verify
from retrank.contract.errors import BundleError, RetrankError
from retrank.contract.files import staging
from retrank.contract.filters import Filter
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.desired import Canary, Staged
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.replica import Replica, open_replica
from retrank.serving.bundles.status import ReplicaStatus
from retrank.serving.bundles.watch import Summary, breach
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service
from retrank.serving.settings import PipelineSettings
from retrank.serving.stores.protocol import Document, StoreUnavailable
from retrank.serving.stores.settings import StateSettings
from retrank.serving.swap_settings import WatchSettings
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.telemetry.facade import SwapResult
from retrank.serving.telemetry.prometheus import PrometheusTelemetry


@pytest.fixture
def world(three_bundles: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(three_bundles, tmp_path / "bundles")))


def _letters(replica: Replica, user: str = "u1") -> set[str]:
    answer = _service(replica.front).recommend(RecommendRequest(user_id=user))
    return {item.item_id[0] for item in answer.items}


def test_a_replica_starts_with_what_the_settings_name_and_then_follows(world: World) -> None:
    replica = world.replica()
    assert _letters(replica) == {"a"}
    for number, letter in ((1, "b"), (2, "c"), (0, "a")):
        world.activate(number)
        replica.reconciler.step()
        assert _letters(replica) == {letter}
        assert replica.status().generation == world.desired().generation
        assert replica.status().errors == {}


def test_at_most_two_bundles_are_resident_and_a_rollback_loads_nothing(world: World) -> None:
    replica = world.replica()
    for number in (1, 2):
        world.activate(number)
        replica.reconciler.step()
        assert len(replica.status().resident) == 2
    loaded = list(world.opened)
    state.edit(world.control, state.rollback(world.line("")))
    replica.reconciler.step()
    assert _letters(replica) == {"b"}
    assert world.opened == loaded


def test_a_bundle_is_ready_for_its_first_request_before_anybody_can_ask_it(world: World) -> None:
    replica, seen = world.replica(), []
    replica.reconciler.prepare = lambda ready, _: seen.append((ready.bundle.id, replica.front.bundle.id))
    world.activate(1)
    replica.reconciler.step()
    assert seen == [(world.names[1], world.names[0])]


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
def test_any_byte_of_any_file_flipped_refuses_the_activation_and_the_old_bundle_goes_on(
    world: World, file: str
) -> None:
    replica = world.replica()
    path = world.root / world.names[1] / file
    raw = bytearray(path.read_bytes())
    raw[int(np.random.default_rng(len(file)).integers(len(raw)))] ^= 0x10
    path.write_bytes(raw)
    bad = world.activate(1)
    replica.reconciler.step()
    assert _letters(replica) == {"a"}
    assert (world.desired().active, world.desired().audit[-1].action) == (world.names[0], "refuse")
    assert "ChecksumError" in world.desired().audit[-1].reason
    replica.reconciler.step()
    assert bad in replica.status().errors
    assert replica.status().generation == world.desired().generation


def _reseal(world: World, change: Callable[[Path], None], **update: object) -> str:
    """Seal bundle b again after a change to its files, as somebody who knows the format could; return its name."""
    origin = verify(world.root / world.names[1])
    with staging(world.root) as staged:
        for name in FILES:
            shutil.copyfile(origin.path(name), staged / name)
        change(staged)
        manifest = origin.manifest.model_copy(update={"files": seal_files(staged), **update})
        return seal(staged, manifest, world.root).bundle_id


def _shuffle_vectors(staged: Path) -> None:
    vectors = np.load(staged / ITEM_VECTORS)
    vectors[1:] = vectors[:0:-1].copy()
    np.save(staged / ITEM_VECTORS, vectors)


def _nothing(_: Path) -> None:
    pass


def _boasting(world: World) -> str:
    facts = verify(world.root / world.names[1]).manifest.index
    return _reseal(world, _nothing, index=facts.model_copy(update={"measured_recall": 1.2}))


def _of_another_shop(world: World) -> str:
    facts = verify(world.root / world.names[1]).manifest.data
    return _reseal(world, _nothing, data=facts.model_copy(update={"name": "another shop"}))


def _with_shuffled_vectors(world: World) -> str:
    return _reseal(world, _shuffle_vectors)


@pytest.mark.parametrize(
    ("sealed", "said"),
    [
        (_with_shuffled_vectors, "golden request 1"),
        (_boasting, "the index finds 1.0000 of the exact top"),
        (_of_another_shop, "was trained on 'another shop'"),
    ],
)
def test_a_sealed_bundle_that_is_wrong_is_refused_with_the_reason(
    world: World, sealed: Callable[[World], str], said: str
) -> None:
    replica = world.replica()
    bad = sealed(world)
    state.edit(world.control, state.activate(bad, world.line(bad)))
    replica.reconciler.step()
    assert _letters(replica) == {"a"}
    assert said in world.desired().audit[-1].reason


def test_a_bundle_that_fails_on_recent_requests_is_refused_before_any_user_sees_it(world: World) -> None:
    replica = world.replica()
    assert _letters(replica, "u7") == {"a"}

    class Fails(Recommender):
        def recommend(self, request: RecommendRequest) -> None:  # type: ignore[override]
            raise RuntimeError(request.user_id)

    replica = open_replica(
        "strict",
        world.control,
        world.root / world.names[0],
        opened=lambda bundle, _: Recommender.over(bundle),
        rehearsal=lambda ready: Fails(ready.runtime, PipelineSettings()),
        settings=QUICK,
    )
    _service(replica.front).recommend(RecommendRequest(user_id="u7"))
    world.activate(1)
    replica.reconciler.step()
    assert _letters(replica) == {"a"}
    assert "rehearsal of recent request 1 of 1 raised RuntimeError" in world.desired().audit[-1].reason


def test_a_rehearsal_is_not_counted_and_rests_after_every_request(world: World) -> None:
    replica = world.replica()
    world.activate(1)
    replica.reconciler.step()
    without = len(world.slept)  # for the proofs, of which there are as many in every bundle
    for number in range(20):
        _letters(replica, f"u{number}")
    world.activate(2)
    replica.reconciler.step()
    assert len(world.slept) - without == without + 20
    assert replica.front.active.tally.slates == 0
    assert replica.front.figures(world.names[2]).summary().answers == 0


def test_a_bundle_that_answers_with_nothing_is_rolled_back_with_the_reason(world: World) -> None:
    replica = world.replica()
    for _ in range(60):
        _letters(replica)
    bad = world.activate(1)
    replica.reconciler.step()
    for _ in range(60):
        replica.front.watched(replica.front.active, lambda _: Nothing())
    replica.reconciler.step()
    replica.reconciler.step()
    assert _letters(replica) == {"a"}
    assert world.desired().audit[-1].model_dump(exclude={"at", "key"}) == {
        "by": "one",
        "action": "refuse",
        "id": bad,
        "reason": "100.0% of 60 answers empty, 0.0% before; at most 5.0% is allowed",
    }


@pytest.mark.parametrize(
    "wish",
    [
        RecommendRequest(exclude_items=[f"b{row}" for row in range(1, 51)]),
        RecommendRequest(filter=Filter.model_validate({"exists": {"attribute": "no such"}})),
        SimilarRequest(item_id="b1", exclude_items=[f"b{row}" for row in range(1, 51)]),
    ],
)
def test_callers_whose_own_wishes_leave_nothing_cannot_roll_a_bundle_back(
    world: World, wish: RecommendRequest | SimilarRequest
) -> None:
    replica = world.replica()
    world.activate(1)
    replica.reconciler.step()
    service = _service(replica.front)
    for _ in range(60):
        answer = service.recommend(wish) if isinstance(wish, RecommendRequest) else service.similar(wish)
        assert answer.items == []
    replica.reconciler.step()
    assert world.desired().active == world.names[1]


def test_what_the_service_says_of_itself_is_the_active_bundle_whoever_is_in_the_trial(world: World) -> None:
    replica = world.replica()
    world.activate(1)
    canary = Canary(id=world.names[0], percent=100, salt="s")
    state.edit(world.control, state.canary(canary, world.line(world.names[0])))
    replica.reconciler.step()
    assert _letters(replica) == {"a"}
    assert _service(replica.front).recommender.bundle.id == world.names[1]


class Nothing:
    """The answer of a bundle that finds nothing."""

    items: Sequence[object] = ()
    degraded = Degraded()


def test_every_end_of_a_swap_is_counted(world: World) -> None:
    replica, telemetry = world.replica(), PrometheusTelemetry()
    replica.tell(telemetry)
    for _ in range(60):
        _letters(replica)
    world.activate(1)
    replica.follow()
    for _ in range(60):
        replica.front.watched(replica.front.active, lambda _: Nothing())
    for _ in range(2):  # take it back, and go back
        replica.follow()
    (world.root / world.names[2] / MANIFEST).write_text("{}")
    world.activate(2)
    replica.follow()
    shown = Exposition(telemetry.registry, None, now=lambda: 0.0).text().decode()
    counted = {result: f'recsys_bundle_swap_total{{result="{result}"}}' for result in get_args(SwapResult)}
    assert [f"{counted[result]} {count:.1f}" in shown for result, count in ENDS.items()] == [True] * 3, shown


ENDS = {"activated": 2, "rolled_back": 1, "failed": 1}


def test_the_watch_ends_after_its_time(world: World) -> None:
    replica = world.replica()
    world.activate(1)
    replica.reconciler.step()
    world.time += QUICK.watch.watch_s
    replica.reconciler.step()
    for _ in range(60):
        _service(replica.front).recommend(RecommendRequest(exclude_items=[f"b{row}" for row in range(1, 51)]))
    replica.reconciler.step()
    assert world.desired().active == world.names[1]


def test_a_bad_canary_ends_and_the_active_bundle_stays(world: World) -> None:
    replica = world.replica()
    trial = Canary(id=world.names[1], percent=100, salt="s")
    state.edit(world.control, state.canary(trial, world.line(trial.id)))
    replica.reconciler.step()
    assert _letters(replica) == {"b"}
    for _ in range(60):
        replica.front.watched(replica.front.pick("u1").recommender, lambda _: Nothing())
    replica.reconciler.step()
    replica.reconciler.step()
    assert (world.desired().canary, world.desired().active) == (None, world.names[0])
    assert _letters(replica) == {"a"}


def test_a_model_of_a_canary_that_is_left_alone_is_in_the_status_and_in_the_metrics_until_the_trial_ends(
    world: World,
) -> None:
    replica, telemetry = world.replica(), PrometheusTelemetry()
    replica.tell(telemetry)
    trial = Canary(id=world.names[1], percent=100, salt="s")
    state.edit(world.control, state.canary(trial, world.line(trial.id)))
    replica.reconciler.step()
    canary = replica.holder.serving.canary
    assert canary is not None
    broken = Recommender(dataclasses.replace(canary.runtime, encoder=BrokenEncoder()), PipelineSettings())
    replica.holder.serve(dataclasses.replace(replica.holder.serving, canary=broken))
    assert replica.status().left_alone == {world.names[0]: (), trial.id: ()}
    for _ in range(20):
        broken.recommend(RecommendRequest(user_id="u1"))

    def states() -> tuple[str, ...]:
        replica.beat()
        shown = Exposition(telemetry.registry, None, now=lambda: 0.0).text().decode()
        sought = ("sequence", "canary_sequence")
        return tuple(re.findall(f'circuit_state{{dep="{name}"}} (.*)', shown)[0] for name in sought)

    assert replica.status().left_alone == {world.names[0]: (), trial.id: ("sequence",)}
    assert states() == ("0.0", "2.0")
    state.edit(world.control, state.rollback(world.line("")))
    replica.reconciler.step()
    assert states() == ("0.0", "0.0")


def test_two_replicas_agree_on_one_rollback(world: World) -> None:
    first, second = world.replica("first"), world.replica("second")
    world.activate(1)
    for replica in (first, second):
        replica.reconciler.step()
    for _ in range(60):
        first.front.watched(first.front.active, lambda _: Nothing())
    first.reconciler.step()
    for replica in (first, second):
        replica.reconciler.step()
        assert _letters(replica) == {"a"}
    assert [change.action for change in world.desired().audit].count("refuse") == 1


def test_a_replica_that_cannot_open_the_active_bundle_serves_its_predecessor_and_tells_only_itself(
    world: World,
) -> None:
    world.replica("healthy")
    bad = world.activate(1)
    (world.root / bad / ITEM_VECTORS).write_bytes(b"spoiled on this disk")
    late = world.replica("late")
    assert _letters(late) == {"a"}
    late.reconciler.step()
    assert world.desired().active == bad
    assert late.status().generation < world.desired().generation
    assert bad in late.status().errors


def test_why_a_bundle_was_refused_is_told_with_its_time_until_the_fleet_has_gone_on_to_another(world: World) -> None:
    replica = world.replica()
    bad = world.activate(1)
    (world.root / bad / ITEM_VECTORS).write_bytes(b"spoiled")
    replica.reconciler.step()
    world.time += 60.0
    replica.reconciler.step()  # back to the bundle before: what was refused is news as yet
    assert _letters(replica) == {"a"}
    status = replica.status()
    assert ITEM_VECTORS in status.errors[bad]
    assert status.errors_at == {bad: world.time - 60.0}
    world.activate(2)
    replica.reconciler.step()
    assert _letters(replica) == {"c"}
    assert (replica.status().errors, replica.status().errors_at) == ({}, {})


def test_a_source_that_was_bad_is_trouble_of_the_past_once_it_was_fetched(world: World, tmp_path: Path) -> None:
    name, replica = world.names[2], world.replica()
    elsewhere = Path(shutil.move(world.root / name, tmp_path / "elsewhere" / name))
    elsewhere.rename(tmp_path / "late")
    state.edit(world.control, state.stage(Staged(id=name, source=str(elsewhere)), world.line(name)))
    replica.stager.step()
    assert replica.status().errors_at == {name: world.time}
    (tmp_path / "late").rename(elsewhere)
    world.time += 60.0
    replica.stager.step()
    assert (replica.status().verified, replica.status().errors, replica.status().errors_at) == ((name,), {}, {})


def test_a_replica_without_any_bundle_to_open_does_not_start(world: World) -> None:
    (world.root / world.names[0] / ITEM_VECTORS).write_bytes(b"spoiled")
    with pytest.raises(BundleError, match=ITEM_VECTORS):
        world.replica()


def test_staged_bundles_are_brought_here_and_a_bad_source_is_reported(world: World, tmp_path: Path) -> None:
    name = world.names[2]
    elsewhere = shutil.move(world.root / name, tmp_path / "elsewhere" / name)
    replica = world.replica()
    staged = Staged(id=name, source=str(elsewhere))
    state.edit(world.control, state.stage(staged, world.line(name)))
    state.edit(world.control, state.stage(Staged(id="f" * 16, source=str(tmp_path / "no")), world.line("f" * 16)))
    replica.stager.step()
    assert replica.status().verified == (name,)
    assert "no such directory" in replica.status().errors["f" * 16]
    world.activate(2)
    replica.reconciler.step()
    assert _letters(replica) == {"c"}


def test_a_replica_starts_while_the_store_is_away_and_follows_when_it_is_back(world: World) -> None:
    before = world.replica()
    world.activate(1)
    del before
    world.control = away = Away.like(world.control)
    replica = world.replica("late")
    replica.run()
    try:
        assert _letters(replica) == {"a"}  # what the settings name
        away.is_away = False
        _until(lambda: _letters(replica) == {"b"})
        _until(lambda: "late" in away.beats(world.time))
    finally:
        replica.close()


def test_the_first_replica_that_reaches_the_store_says_what_the_settings_ask_for(world: World) -> None:
    world.replica()
    world.control = away = Away.like(world.control)
    replica = world.replica("late", configured=1)
    with pytest.raises(StoreUnavailable):
        replica.follow()
    away.is_away = False
    replica.follow()
    assert (world.desired().active, _letters(replica)) == (world.names[1], {"b"})


def test_a_bundle_that_cannot_be_fetched_lets_a_replica_start_with_the_one_before(world: World, tmp_path: Path) -> None:
    world.replica()
    name = world.names[1]
    state.edit(world.control, state.stage(Staged(id=name, source=str(tmp_path / "gone")), world.line(name)))
    world.activate(1)
    shutil.rmtree(world.root / name)
    assert _letters(world.replica("late")) == {"a"}


class Away(ReferenceStore):
    """A control store that does not answer until told to."""

    is_away = True

    @classmethod
    def like(cls, store: ReferenceStore) -> "Away":
        away = cls(StateSettings())
        away.__dict__.update(store.__dict__)
        return away

    def document(self, name: str) -> Document:
        self._answer()
        return super().document(name)

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        self._answer()
        super().beat(replica, status, ttl_s, now)

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailable("nobody there")


def test_a_heartbeat_says_what_a_replica_runs(world: World) -> None:
    replica = world.replica()
    replica.beat()
    (said,) = world.control.beats(world.time).values()
    status = ReplicaStatus.model_validate(said)
    assert (status.active, status.generation) == (world.names[0], 1)
    assert status.memory.resident > status.memory.private > 0
    assert world.control.beats(world.time + QUICK.ttl_s + 1) == {}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (Summary(100, 0, 0, 5), Summary(49, 1, 1, 900), None),  # too few to conclude anything
        (Summary(100, 0, 0, 5), Summary(100, 0.02, 0.05, 24), None),
        (Summary(100, 0, 0, 5), Summary(100, 0.03, 0, 5), "3.0% of 100 answers failed"),
        (Summary(100, 0.5, 0, 5), Summary(100, 0.51, 0, 5), None),  # no worse than before
        (Summary(0, 0, 0, 0), Summary(100, 0, 0.5, 5), "50.0% of 100 answers empty"),
        (Summary(0, 0, 0, 0), Summary(100, 0, 0, 900), None),  # nothing to compare latency with
        (Summary(100, 0, 0, 5), Summary(100, 0, 0, 26), "p95 of an answer 26.0 ms, 5.0 before"),
        (Summary(100, 0, 0, 50), Summary(100, 0, 0, 99), None),
    ],
)
def test_the_guard_compares_with_the_bundle_before(before: Summary, after: Summary, said: str | None) -> None:
    found = breach(before, after, WatchSettings())
    assert found is None if said is None else found is not None and found.startswith(said)


def test_the_threads_follow_by_themselves_and_survive_a_store_that_is_away(world: World) -> None:
    replica = world.replica()
    replica.run()
    try:
        world.activate(1)
        _until(lambda: _letters(replica) == {"b"})
        _until(lambda: ReplicaStatus.model_validate(world.control.beats(world.time)["one"]).active == world.names[1])
    finally:
        replica.close()


def _until(true: Callable[[], bool], limit: int = 2_000) -> None:
    import time  # noqa: PLC0415

    for _ in range(limit):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not become true")


def test_errors_of_swaps_are_deliberate_ones() -> None:
    assert issubclass(state.SwapRefused, RetrankError)


def _service(front: Front) -> Service:
    return Service(front.pick, Backing.none(), watch=front)
