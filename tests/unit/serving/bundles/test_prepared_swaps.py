"""What is done for a bundle right before it answers may be overtaken by another order, and may fail."""

from pathlib import Path

import pytest
from swap_world import QUICK, World

from retrank.contract.rest import Rest
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.reconcile import RETRY_S
from retrank.serving.bundles.replica import Replica
from retrank.serving.recommender import Recommender


@pytest.fixture
def world(three_bundles: Path) -> World:
    return World(three_bundles)


def _roll_back(world: World) -> None:
    state.edit(world.control, state.rollback(world.line("")))


def _serves(replica: Replica) -> str:
    return replica.front.bundle.id


def test_a_bundle_that_is_taken_back_while_it_is_prepared_never_answers(world: World) -> None:
    replica, answered = world.replica(), []
    replica.holder.serve = lambda serving: answered.append(serving.active.bundle.id)  # type: ignore[method-assign]
    world.activate(1)

    def taken_back_meanwhile(ready: Recommender, look: Rest) -> None:
        del ready, look
        _roll_back(world)

    replica.reconciler.prepare = taken_back_meanwhile
    replica.follow()
    assert answered == []
    replica.reconciler.prepare = lambda _, __: None
    replica.follow()
    assert answered == [world.names[0]]


def test_a_newer_order_ends_a_preparation_at_its_next_rest(world: World) -> None:
    replica, steps = world.replica(), list[str]()
    world.activate(1)

    def prepare(ready: Recommender, look: Rest) -> None:
        for step in range(3):
            steps.append(f"{ready.bundle.id} {step}")
            if ready.bundle.id == world.names[1]:
                _roll_back(world)
                world.time += QUICK.poll_s
            look()

    replica.reconciler.prepare = prepare
    replica.follow()
    assert steps == [f"{world.names[1]} 0"]
    replica.follow()
    assert (_serves(replica), replica.status().generation) == (world.names[0], world.desired().generation)
    assert [change.action for change in world.desired().audit].count("refuse") == 0


def test_a_bundle_that_cannot_be_prepared_is_refused_with_the_reason_and_the_old_one_goes_on(world: World) -> None:
    replica = world.replica()
    bad = world.activate(1)

    def fails(ready: Recommender, look: Rest) -> None:
        del look
        if ready.bundle.id == bad:
            raise MemoryError("no room for new items")

    replica.reconciler.prepare = fails
    replica.follow()
    assert replica.status().errors[bad] == "MemoryError: no room for new items"
    assert (world.desired().active, world.desired().audit[-1].action) == (world.names[0], "refuse")
    replica.follow()
    assert (_serves(replica), replica.status().generation) == (world.names[0], world.desired().generation)


def test_a_preparation_that_fails_is_tried_again_after_a_while_and_not_with_every_step(world: World) -> None:
    replica, tries = world.replica(), list[float]()
    world.activate(1)
    replica.follow()

    def fails(ready: Recommender, look: Rest) -> None:
        del ready, look
        tries.append(world.time)
        if len(tries) == 1:
            raise OSError("device gone")

    replica.reconciler.prepare = fails
    _roll_back(world)  # to a bundle without a predecessor: there is nothing that the fleet could go back to
    began = world.time
    for _ in range(3):
        replica.follow()
    assert (tries, replica.status().errors) == ([began], {world.names[0]: "OSError: device gone"})
    world.time += RETRY_S
    replica.follow()
    assert tries == [began, began + RETRY_S]
    assert (_serves(replica), replica.status().errors) == (world.names[0], {})
