"""While another replica of the host loads, the steps of this one go on: it watches, takes orders and says how it is."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from reference_store import ReferenceStore
from swap_world import QUICK, World

from retrank.contract.api import Degraded
from retrank.contract.bundle import ITEM_VECTORS
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.desired import Canary
from retrank.serving.bundles.replica import Replica
from retrank.serving.bundles.status import ReplicaStatus
from retrank.serving.bundles.turn import Turn
from retrank.serving.stores.protocol import Document, StoreUnavailable
from retrank.serving.stores.settings import StateSettings


@pytest.fixture
def world(three_bundles: Path, tmp_path: Path) -> World:
    return World(Path(shutil.copytree(three_bundles, tmp_path / "bundles")))


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "loading"


@pytest.fixture
def another_loads(lock: Path) -> Iterator[Callable[[], None]]:
    """Hold the turn; call it to give the turn back."""
    with ExitStack() as held:
        assert held.enter_context(Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0))
        yield held.close


def _serves(replica: Replica) -> str:
    return replica.front.bundle.id


class Nothing:
    items = ()
    degraded = Degraded()


def _answer_badly(replica: Replica, name: str) -> None:
    picked = next(one.recommender for one in replica.holder.serving.variants() if one.recommender.bundle.id == name)
    for _ in range(60):
        replica.front.watched(picked, lambda _: Nothing())


def _trial(world: World, number: int, percent: float) -> str:
    name = world.names[number]
    state.edit(world.control, state.canary(Canary(id=name, percent=percent, salt="s"), world.line(name)))
    return name


def _swapped_to(world: World, replica: Replica, number: int) -> str:
    """Let a replica answer from a bundle that it loaded while nobody else did."""
    name = world.activate(number)
    replica.follow()
    assert _serves(replica) == name
    return name


def test_a_replica_loads_when_its_turn_comes_and_not_before(
    world: World, lock: Path, another_loads: Callable[[], None]
) -> None:
    replica = world.replica(lock=lock)
    new = world.activate(1)
    for _ in range(3):
        replica.follow()
    assert (_serves(replica), replica.status().resident) == (world.names[0], (world.names[0],))
    another_loads()
    replica.follow()
    assert _serves(replica) == new


def test_a_replica_whose_turn_does_not_come_loads_all_the_same(
    world: World, lock: Path, another_loads: Callable[[], None]
) -> None:
    replica = world.replica(lock=lock)
    new = world.activate(1)
    replica.follow()
    world.time += QUICK.patience_s
    replica.follow()
    assert _serves(replica) == new
    another_loads()


def test_what_answers_is_watched_meanwhile(world: World, lock: Path) -> None:
    replica = world.replica(lock=lock)
    bad = _swapped_to(world, replica, 1)
    with Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0):
        _trial(world, 2, 50)
        replica.follow()
        _answer_badly(replica, bad)
        replica.follow()
        assert (world.desired().active, world.desired().audit[-1].action) == (world.names[0], "refuse")
        replica.follow()
        assert _serves(replica) == world.names[0]


def test_a_trial_is_watched_while_it_waits_to_become_larger(world: World, lock: Path) -> None:
    """The order for it is not carried out yet, as the active bundle of that order is still to be loaded."""
    replica = world.replica(lock=lock)
    bad = _trial(world, 1, 50)
    replica.follow()
    assert replica.status().canary == bad
    with Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0):
        world.activate(2)
        _trial(world, 1, 60)
        replica.follow()
        _answer_badly(replica, bad)
        replica.follow()
    assert world.desired().canary is None
    assert bad in replica.status().errors


def test_what_the_document_wants_no_longer_is_taken_back_by_nobody(world: World, lock: Path) -> None:
    replica = world.replica(lock=lock)
    leaving = _swapped_to(world, replica, 1)
    with Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0):
        new = world.activate(2)
        _answer_badly(replica, leaving)
        replica.follow()
    assert world.desired().active == new
    assert replica.status().errors == {}


def test_a_rollback_is_carried_out_meanwhile_and_finds_its_bundle_in_memory(world: World, lock: Path) -> None:
    replica = world.replica(lock=lock)
    _swapped_to(world, replica, 1)
    loaded = list(world.opened)
    with Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0):
        world.activate(2)
        replica.follow()
        world.activate(0)  # what answered before the last swap, and is still there
        replica.follow()
    assert _serves(replica) == world.names[0]
    assert replica.status().generation == world.desired().generation
    assert world.opened == loaded


@pytest.mark.parametrize("away", [False, True])
def test_a_newer_order_ends_a_load_and_a_store_that_is_away_does_not(world: World, away: bool) -> None:
    world.control = store = Away.like(world.control)
    replica = world.replica()
    unwanted = world.activate(1)

    def roll_back() -> None:
        world.meanwhile = lambda: None
        world.time += QUICK.poll_s
        world.activate(0)
        store.is_away = away

    world.meanwhile = roll_back
    if away:
        with pytest.raises(StoreUnavailable):  # after the load
            replica.follow()
        store.is_away = False
    else:
        replica.follow()
    assert (unwanted in world.opened) is away
    replica.follow()
    assert (_serves(replica), replica.status().generation) == (world.names[0], world.desired().generation)
    assert replica.status().errors == {}
    assert [change.action for change in world.desired().audit].count("refuse") == 0


class Away(ReferenceStore):
    """A control store that may not answer."""

    is_away = False

    @classmethod
    def like(cls, store: ReferenceStore) -> "Away":
        away = cls(StateSettings())
        away.__dict__.update(store.__dict__)
        return away

    def document(self, name: str) -> Document:
        if self.is_away:
            raise StoreUnavailable("nobody there")
        return super().document(name)


def test_others_wait_for_a_replica_that_failed_once_and_waits_for_its_turn_to_try_again(
    world: World, lock: Path
) -> None:
    first, second = world.replica("first"), world.replica("second", lock=lock)
    for replica in (first, second):
        replica.beat()
    path = world.root / world.names[1] / ITEM_VECTORS
    whole = path.read_bytes()
    path.write_bytes(b"spoiled")
    world.activate(1)
    second.follow()
    for replica in (first, second):
        replica.follow()
    assert world.names[1] in second.status().errors
    path.write_bytes(whole)
    new = world.activate(1)
    with Turn(lock, wait_s=0.0, clock=lambda: 0.0).taken(0.0):
        second.follow()
        assert ReplicaStatus.model_validate(world.control.beats(world.time)["second"]).errors == {}
        first.follow()
        assert _serves(first) == world.names[0]
    second.follow()
    first.follow()
    assert _serves(first) == _serves(second) == new


def test_a_new_order_for_the_same_bundles_neither_ends_the_wait_for_others_nor_prolongs_it(world: World) -> None:
    first, second = world.replica("first"), world.replica("second")
    second.beat()
    name = _trial(world, 1, 5)
    first.follow()
    for percent in (10, 20):
        world.time += QUICK.patience_s / 3
        second.beat()
        _trial(world, 1, percent)
        first.follow()
        assert first.status().canary is None
    world.time += QUICK.patience_s / 3
    second.beat()
    first.follow()
    assert first.status().canary == name
    assert first.reconciler.took_s == pytest.approx(QUICK.patience_s)


def test_the_same_bundles_ordered_again_later_are_a_new_order(world: World) -> None:
    replica = world.replica()
    _trial(world, 1, 5)
    replica.follow()
    world.time += 1_000.0
    _trial(world, 1, 10)
    replica.follow()
    assert replica.reconciler.took_s == 0.0
