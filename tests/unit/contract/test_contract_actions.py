"""What the data calls an act, and the type of live event it is."""

import numpy as np
import pytest

from retrank.contract.actions import BY_NAME, Actions, action_facts, told, type_by_name
from retrank.contract.errors import ConfigError


@pytest.mark.parametrize(
    ("action", "event_type"),
    [
        ("view", "click"), ("VIEW", "click"), ("Product View", "click"), ("buy", "purchase"), ("Add-To-Cart", "cart"),
        ("LIKE", "rating"), ("transaction", "purchase"), ("impression", "impression"), ("share", "custom"),
        ("viewer", "custom"), ("", "custom"), ("dismiss", "custom"),
    ],
)  # fmt: skip
def test_a_name_says_its_type_whatever_case_and_dashes(action: str, event_type: str) -> None:
    assert type_by_name(action) == event_type


def test_no_name_says_two_types() -> None:
    names = [name for group in BY_NAME.values() for name in group]
    assert len(names) == len(set(names))


def _actions(*names: str, counts: tuple[int, ...] = (), **said: str) -> Actions:
    rows = np.repeat(np.arange(1, len(counts) + 1), counts)
    return Actions(action_facts(names, rows, said))


@pytest.mark.parametrize(
    ("actions", "rows"),
    [
        (_actions("view", "buy"), {"click": 1, "purchase": 2, "cart": 0, "view": 1, "buy": 2, "": 0}),
        (_actions("view", "open", counts=(3, 5)), {"click": 2, "view": 1}),
        (_actions("view", "click", counts=(9, 1)), {"click": 2}),  # the name of the type itself comes first
        (_actions("view", "open"), {"click": 1}),  # equally common: the first
        (_actions("click", click="cart"), {"click": 0, "cart": 1}),
        (_actions("share", share="rating"), {"rating": 1, "share": 1}),
        (_actions("share"), {"share": 1, "custom": 0}),
        (_actions("click", "custom"), {"click": 1, "share": 2, "cart": 0}),  # as events come back from a service
        (_actions(), {"click": 0}),
    ],
)
def test_a_live_event_has_the_row_of_an_action_of_its_type(actions: Actions, rows: dict[str, int]) -> None:
    assert {kind: actions.row(kind) for kind in rows} == rows


def test_actions_of_some_types_are_marked_by_row() -> None:
    actions = _actions("view", "buy", "share", "shown")
    assert actions.of_types(["click", "custom"]).tolist() == [True, True, False, True, False]
    assert actions.of_types(["impression"]).tolist() == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("said", "message"),
    [({"purchased": "purchase"}, r"names \['purchased'\]; the actions of the data are \['buy'\]"),
     ({"buy": "sale"}, "says buy: sale; expected one of impression, click")],
)  # fmt: skip
def test_a_word_on_no_action_or_of_no_type_is_refused(said: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        action_facts(["buy"], None, said)


def test_people_are_told_what_becomes_of_each_action() -> None:
    lines = list(told(_actions("view", "open", "share", counts=(2, 1_000, 7))))
    assert lines == [
        "action view -> click, 2 events",
        "action open -> click, 1,000 events",
        "WARNING: action share (7 events) has no event type; a live event is read as it only if it is custom and named "
        "'share', or with 'sealing.action_types={share: TYPE}'",
        "a live click is read as open, of view, open",
        "no action of this data is of type cart, purchase, rating: a live event of such a type tells the model that "
        "something was done with the item, not what",
    ]
    assert list(told(_actions())) == []


@pytest.mark.parametrize("name", ["impression", "Shown", "dismiss"])
def test_people_are_warned_of_an_action_in_which_nothing_was_done(name: str) -> None:
    [said, *_] = told(_actions(name, counts=(7,)))
    assert said == (
        f"WARNING: action {name} (7 events) is no act, and models learn to predict it, as if it were one; ingest with "
        f"'data.columns.leave_out_actions=[{name}]'"
    )
