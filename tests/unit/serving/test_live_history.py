"""What of a live profile joins a history, and what counts as seen: on ids, in tables."""

import pytest

from retrank.contract.api import Session
from retrank.contract.slate_options import SeenPolicy
from retrank.serving.live_history import live_history, remembered
from retrank.serving.stores.protocol import LiveEvent, Profile

DAY_US = 86_400_000_000


def _profile(*events: tuple[str, str, int, str | None]) -> Profile:
    return Profile(tuple(LiveEvent(str(place), *event) for place, event in enumerate(events)), {})


def test_acts_newer_than_the_bundle_follow_in_order_and_impressions_and_dismissals_do_not() -> None:
    profile = _profile(
        ("click", "old", 5, None), ("impression", "shown", 11, None), ("cart", "a", 12, None),
        ("dismiss", "no", 13, None), ("search", "b", 14, None),
    )  # fmt: skip
    found = live_history(profile, Session(), after_us=10)
    assert (found.item_ids, found.times_us) == (["a", "b"], [12, 14])


@pytest.mark.parametrize(
    ("session", "told"),
    [
        (Session(recent=["a", "b", "c"]), ["c"]),
        (Session(recent=["a", "a", "b"]), ["a"]),
        (Session(id="s", recent=["a", "b"]), ["b"]),
        (Session(id="other", recent=["a", "b"]), ["a", "b"]),
        (Session(recent=[]), []),
    ],
)
def test_an_item_told_by_the_session_and_posted_as_an_event_counts_once(session: Session, told: list[str]) -> None:
    profile = _profile(("click", "a", 12, "s"), ("click", "b", 13, None))
    assert list(live_history(profile, session, after_us=0).recent) == told


def test_without_a_profile_the_session_is_all_there_is() -> None:
    assert list(live_history(Profile((), {}), Session(recent=["x", "x"]), after_us=0).recent) == ["x", "x"]


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        (None, ["clicked", "bought", "searched"]),
        (SeenPolicy(types=["purchase"]), ["bought"]),
        (SeenPolicy(types=["impression", "click"]), ["clicked", "shown"]),
        (SeenPolicy(types=["custom"]), ["searched"]),
        (SeenPolicy(days=3), ["clicked", "searched"]),
        (SeenPolicy(days=1), []),
    ],
)
def test_the_policy_says_which_events_make_an_item_seen_and_for_how_long(
    policy: SeenPolicy | None, seen: list[str]
) -> None:
    memory = {
        "clicked": {"click": 8 * DAY_US, "impression": 9 * DAY_US},
        "bought": {"purchase": 2 * DAY_US},
        "shown": {"impression": 9 * DAY_US},
        "searched": {"search": 8 * DAY_US},
        "disliked": {"dismiss": 9 * DAY_US},
    }
    assert remembered(Profile((), memory), policy, now=10 * 86_400.0) == seen
