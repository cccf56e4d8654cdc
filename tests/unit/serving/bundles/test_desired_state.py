"""What the fleet should serve changes by rules that hold for everybody who edits the document."""

import pytest
from reference_store import ReferenceStore

from retrank.contract.errors import FormatError
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.desired import Canary, Change, Desired, Staged, SwapRefused
from retrank.serving.stores.settings import StateSettings


def _line(name: str, action: state.Action = "activate") -> Change:
    return Change(at=1.0, by="test", action=action, id=name)


def _started(active: str = "a") -> ReferenceStore:
    control = ReferenceStore(StateSettings())
    state.start(control, active, now=0.0)
    return control


def _activate(control: ReferenceStore, name: str) -> Desired:
    return state.edit(control, state.activate(name, _line(name)))


def test_the_first_start_serves_what_the_settings_name() -> None:
    found = state.read(_started("a"))
    assert found is not None
    assert (found.active, found.generation, found.previous) == ("a", 1, None)


def test_a_restart_keeps_what_was_activated_and_new_settings_replace_it() -> None:
    control = _started("a")
    _activate(control, "b")
    assert state.start(control, "a", now=2.0).active == "b"
    replaced = state.start(control, "c", now=3.0)
    assert (replaced.active, replaced.previous, replaced.generation) == ("c", "b", 3)
    assert state.start(control, "c", now=4.0) == replaced


def test_a_rollback_goes_back_once_and_not_to_what_was_undone() -> None:
    control = _started("a")
    assert _activate(control, "b").previous == "a"
    undone = state.edit(control, state.rollback(_line("", "rollback")))
    assert (undone.active, undone.previous, undone.audit[-1].id) == ("a", None, "b")
    with pytest.raises(SwapRefused, match="no predecessor"):
        state.edit(control, state.rollback(_line("", "rollback")))


def test_a_rollback_ends_a_canary_first() -> None:
    control = _started("a")
    _activate(control, "b")
    state.edit(control, state.canary(Canary(id="c", percent=5, salt="s"), _line("c", "canary")))
    ended = state.edit(control, state.rollback(_line("", "rollback")))
    assert (ended.active, ended.previous, ended.canary) == ("b", "a", None)


def test_a_canary_can_be_activated_and_then_is_no_canary() -> None:
    control = _started("a")
    state.edit(control, state.canary(Canary(id="b", percent=5, salt="s"), _line("b", "canary")))
    promoted = _activate(control, "b")
    assert (promoted.active, promoted.previous, promoted.canary) == ("b", "a", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (state.activate("a", _line("a")), "active already"),
        (state.canary(Canary(id="a", percent=5, salt="s"), _line("a")), "active already"),
        (state.canary(None, _line("a")), "no canary"),
        (state.rollback(_line("a")), "no predecessor"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change: state.Edit, said: str) -> None:
    control = _started("a")
    before = control.document(state.DOCUMENT)
    with pytest.raises(SwapRefused, match=said):
        state.edit(control, change)
    assert control.document(state.DOCUMENT) == before


def test_a_refusal_counts_only_for_the_generation_it_was_found_in() -> None:
    control = _started("a")
    found = _activate(control, "b")
    moved = _activate(control, "c")
    assert state.edit(control, state.refuse("b", found.generation, _line("b", "refuse"))) == moved
    back = state.edit(control, state.refuse("c", moved.generation, _line("c", "refuse")))
    assert (back.active, back.previous) == ("b", None)
    assert state.edit(control, state.refuse("c", moved.generation, _line("c", "refuse"))) == back


def test_a_change_is_repeated_on_the_newest_document_when_somebody_was_quicker() -> None:
    control = _started("a")
    rivals = ["b"]

    def change(before: Desired) -> Desired:
        while rivals:
            _activate(control, rivals.pop())
        return state.stage(Staged(id="c"), _line("c", "stage"))(before)

    after = state.edit(control, change)
    assert (after.active, [one.id for one in after.staged]) == ("b", ["a", "c"])


def test_a_bundle_that_leaves_stays_staged_with_the_source_it_had() -> None:
    control = _started("a")
    state.edit(control, state.stage(Staged(id="b", source="/elsewhere"), _line("b", "stage")))
    _activate(control, "b")
    state.edit(control, state.rollback(_line("", "rollback")))
    found = state.read(control)
    assert found is not None
    assert found.staged == (Staged(id="b", source="/elsewhere"), Staged(id="a"))


def test_lists_are_bounded() -> None:
    control = _started("a")
    for number in range(state.MAX_AUDIT + 10):
        state.edit(control, state.stage(Staged(id=str(number)), _line(str(number), "stage")))
    found = state.read(control)
    assert found is not None
    assert len(found.audit) == state.MAX_AUDIT
    assert [one.id for one in found.staged][-1] == str(state.MAX_AUDIT + 9)
    assert len(found.staged) == state.MAX_STAGED


def test_a_document_of_another_version_is_named() -> None:
    control = _started("a")
    control.write(state.DOCUMENT, {"generation": 1, "novelty": True}, expected=1)
    with pytest.raises(FormatError, match="control document 'bundles'"):
        state.read(control)


def test_nothing_can_be_changed_before_the_first_start() -> None:
    with pytest.raises(SwapRefused, match="start the service first"):
        state.edit(ReferenceStore(StateSettings()), state.activate("a", _line("a")))
