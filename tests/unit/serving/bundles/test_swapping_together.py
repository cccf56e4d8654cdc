"""Replicas that load at different times swap at the same; what the store loses they write again."""

import shutil
from pathlib import Path

import pytest
from swap_world import QUICK, World

from retrank.contract.bundle import ITEM_VECTORS
from retrank.contract.errors import BundleError
from retrank.contract.files import POINTER
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.configured import Configured
from retrank.serving.bundles.desired import DOCUMENT, Staged, SwapRefused
from retrank.serving.bundles.replica import Replica
from retrank.serving.telemetry.prometheus import PrometheusTelemetry


@pytest.fixture
def world(three_bundles: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(three_bundles, tmp_path / "bundles")))


@pytest.fixture
def pair(world: World) -> tuple[Replica, Replica]:
    first, second = world.replica("first"), world.replica("second")
    for replica in (first, second):
        replica.beat()
    return first, second


def _serves(replica: Replica) -> str:
    return replica.front.bundle.id


def test_a_replica_that_is_ready_first_answers_from_the_old_bundle_until_the_other_is(
    world: World, pair: tuple[Replica, Replica]
) -> None:
    first, second = pair
    new = world.activate(1)
    first.follow()
    first.follow()
    assert (_serves(first), new in first.status().resident) == (world.names[0], True)
    assert first.status().generation < world.desired().generation  # what `ctl --wait` looks at
    second.follow()
    first.follow()
    assert _serves(first) == _serves(second) == new


def test_what_waits_for_others_is_made_ready_for_its_first_request_meanwhile_and_once_more_at_the_end(
    world: World, pair: tuple[Replica, Replica]
) -> None:
    first, second = pair
    prepared = list[tuple[str, str]]()
    first.reconciler.prepare = lambda ready, _: prepared.append((ready.bundle.id, _serves(first)))
    old, new = world.names[0], world.activate(1)
    first.follow()
    assert (_serves(first), prepared) == (old, [(new, old)])
    second.follow()
    first.follow()
    assert (_serves(first), prepared) == (new, [(new, old), (new, old)])


def test_nobody_waits_for_a_replica_that_died(world: World, pair: tuple[Replica, Replica]) -> None:
    first, _ = pair
    new = world.activate(1)
    first.follow()
    assert _serves(first) == world.names[0]
    world.time += QUICK.ttl_s + 1
    first.follow()
    assert _serves(first) == new


def test_nobody_waits_longer_than_the_settings_say(
    world: World, pair: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    new = world.activate(1)
    first.follow()
    world.time += QUICK.patience_s
    second.beat()
    first.follow()
    assert _serves(first) == new
    assert "swapping before second is ready" in caplog.text


def test_nobody_waits_for_a_replica_that_said_why_it_cannot(world: World, pair: tuple[Replica, Replica]) -> None:
    first, second = pair
    new = world.activate(1)
    said = second.status().model_copy(update={"errors": {new: "spoiled on this disk"}}).model_dump(mode="json")
    world.control.beat("second", said, QUICK.ttl_s, world.time)
    first.follow()
    assert _serves(first) == new


def test_a_rollback_waits_for_nobody(world: World, pair: tuple[Replica, Replica]) -> None:
    first, second = pair
    world.activate(1)
    for replica in (first, second, first):
        replica.follow()
    second.reconciler._resident = {}  # it began anew, and holds nothing but what answers
    second.beat()
    state.edit(world.control, state.rollback(world.line("")))
    first.follow()
    assert _serves(first) == world.names[0]


def test_the_time_of_a_swap_is_that_from_the_order_to_the_answer(world: World, pair: tuple[Replica, Replica]) -> None:
    first, second = pair
    telemetry = PrometheusTelemetry()
    first.tell(telemetry)
    world.activate(1)
    first.follow()
    world.time += 3.0
    second.follow()
    first.follow()
    assert telemetry.registry.get_sample_value("recsys_swap_seconds_sum") == 3.0


@pytest.mark.parametrize("came_back", ["with nothing", "with an older state"])
def test_a_document_that_the_store_lost_is_written_again(
    world: World, pair: tuple[Replica, Replica], came_back: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    old = world.control.document(DOCUMENT)
    new = world.activate(1)
    for replica in (first, second, first):
        replica.follow()
    held = world.desired()
    lost = None if came_back == "with nothing" else old.value
    assert world.control.write(DOCUMENT, lost, world.control.document(DOCUMENT).version)
    for replica in (second, first):
        replica.follow()
    assert (_serves(first), _serves(second)) == (new, new)
    again = world.desired()
    assert again.model_copy(update={"audit": again.audit[:-1]}) == held
    assert (again.audit[-1].action, again.audit[-1].by, again.audit[-1].id) == ("restore", "second", new)
    assert "writing generation 2 again" in caplog.text


def test_the_newest_order_that_any_replica_knows_counts(world: World, pair: tuple[Replica, Replica]) -> None:
    first, second = pair
    world.activate(1)
    for replica in (first, second, first):
        replica.follow()
    world.activate(2)
    second.follow()  # knows of it; the first one does not look before the store is gone
    assert world.control.write(DOCUMENT, None, world.control.document(DOCUMENT).version)
    for replica in (first, second, first, second):
        replica.follow()
    assert (world.desired().generation, world.desired().active) == (3, world.names[2])
    assert _serves(first) == _serves(second) == world.names[2]


def test_a_service_starts_with_what_the_document_names_when_the_pointer_is_damaged(world: World) -> None:
    world.replica()
    new = world.activate(1)
    for damage in ("../../elsewhere\n", "", "0123456789abcdef\n"):
        (world.root / POINTER).write_text(damage)
        assert _serves(world.replica("late", configured=None)) == new
    (world.root / POINTER).unlink()
    assert _serves(world.replica("later", configured=None)) == new


def test_without_a_document_a_damaged_pointer_stops_the_start_with_the_reason(world: World) -> None:
    (world.root / POINTER).write_text("nothing\n")
    with pytest.raises(BundleError, match="points at 'nothing'"):
        world.replica(configured=None)
    (world.root / POINTER).unlink()
    with pytest.raises(BundleError, match="no pointer"):
        world.replica(configured=None)


def test_what_is_no_library_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such directory"):
        Configured.at(tmp_path / "nothing")


def test_a_bundle_is_unstaged_unless_somebody_may_need_it(world: World) -> None:
    replica = world.replica()
    idle = world.names[2]
    state.edit(world.control, state.stage(Staged(id=idle), world.line(idle)))
    replica.stager.step()
    assert replica.status().verified == (idle,)
    world.activate(1)
    for name, why in (
        (world.names[1], "answers"),
        (world.names[0], "a rollback goes back to"),
        ("f" * 16, "not staged"),
    ):
        with pytest.raises(SwapRefused, match=why):
            state.edit(world.control, state.unstage(name, world.line(name)))
    state.edit(world.control, state.unstage(idle, world.line(idle)))
    replica.stager.step()
    assert idle not in replica.status().verified
    assert (world.root / idle).is_dir()


def test_a_bundle_that_was_refused_is_checked_again_and_fetched_from_its_source(world: World, tmp_path: Path) -> None:
    replica = world.replica()
    name = world.names[1]
    source = shutil.copytree(world.root / name, tmp_path / "elsewhere" / name)
    state.edit(world.control, state.stage(Staged(id=name, source=str(source)), world.line(name)))
    replica.stager.step()
    (world.root / name / ITEM_VECTORS).write_bytes(b"spoiled since")
    world.activate(1)
    replica.follow()
    assert _serves(replica) == world.names[0]
    assert name not in replica.status().verified
    replica.stager.step()
    assert name in replica.status().verified
    world.activate(1)
    replica.follow()
    replica.follow()
    assert _serves(replica) == name
