"""Both splits on tables small enough to check by eye, and properties on random histories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.data.leaks import check_leaks
from retrank.data.splits import GlobalTemporal, LeaveLastOut, Split

# user   items            times
# 0      1 2 3 4          1 2 3 9
# 1      2 3              4 5
# 2      5 1 5 2 6        2 3 7 8 10
SHOP = Sequences.from_lists([[1, 2, 3, 4], [2, 3], [5, 1, 5, 2, 6]], [[1, 2, 3, 9], [4, 5], [2, 3, 7, 8, 10]])


def rows(sequences: Sequences) -> list[list[int]]:
    return [of.tolist() for of in sequences]


@st.composite
def histories(draw: st.DrawFn, max_time: int = 60) -> Sequences:
    num_items = draw(st.integers(1, 12))
    item_lists, time_lists = [], []
    for _ in range(draw(st.integers(1, 12))):
        size = draw(st.integers(0, 8))
        item_lists.append(draw(st.lists(st.integers(1, num_items), min_size=size, max_size=size)))
        time_lists.append(sorted(draw(st.lists(st.integers(0, max_time), min_size=size, max_size=size))))
    return Sequences.from_lists(item_lists, time_lists)


def test_leave_last_out_tests_on_the_last_event_and_validates_on_the_one_before() -> None:
    split = LeaveLastOut()(SHOP)
    assert rows(split.train) == [[1, 2], [2, 3], [5, 1, 5]]
    assert split.validation.users.tolist() == [0, 2]
    assert rows(split.validation.inputs) == [[1, 2], [5, 1, 5]]
    assert rows(split.validation.targets) == [[3], [2]]
    assert rows(split.test.inputs) == [[1, 2, 3], [5, 1, 5, 2]]
    assert rows(split.test.targets) == [[4], [6]]


@pytest.mark.parametrize("rule", [LeaveLastOut(), GlobalTemporal(0.3, 0.3)])
def test_what_was_done_stays_with_its_event_in_every_window(rule: LeaveLastOut | GlobalTemporal) -> None:
    done = Sequences(SHOP.item_rows, SHOP.offsets, SHOP.times, actions=SHOP.item_rows.astype(np.int16))
    split = rule(done)
    for known in (split.train, split.validation.inputs, split.test.inputs):
        assert known.actions is not None
        assert known.actions.tolist() == known.item_rows.tolist()
        assert len(known.actions) > 0


def test_a_user_with_fewer_than_three_events_only_trains() -> None:
    split = LeaveLastOut()(Sequences.from_lists([[1], [], [1, 2], [1, 2, 3]]))
    assert rows(split.train) == [[1], [], [1, 2], [1]]
    assert split.test.users.tolist() == [3]
    assert split.counts["short_users"] == 3


def test_leave_last_out_drops_and_counts_cases_whose_target_was_met_before() -> None:
    split = LeaveLastOut()(Sequences.from_lists([[1, 2, 1, 3], [1, 2, 3, 2]]))
    assert split.validation.users.tolist() == [1]
    assert split.test.users.tolist() == [0]
    assert (split.counts["repeat_targets_validation"], split.counts["repeat_targets_test"]) == (1, 1)


def test_global_temporal_cuts_at_two_moments_for_everybody() -> None:
    split = GlobalTemporal(0.2, 0.2)(SHOP)  # 11 times, sorted 1 2 2 3 3 4 5 7 8 9 10: cuts at 5 and 8
    assert rows(split.train) == [[1, 2, 3], [2], [5, 1]]
    assert split.validation.users.tolist() == [1]
    assert rows(split.validation.inputs) == [[2]]
    assert rows(split.validation.targets) == [[3]]
    assert split.test.users.tolist() == [0, 2]
    assert rows(split.test.inputs) == [[1, 2, 3], [5, 1, 5]]
    assert rows(split.test.targets) == [[4], [2, 6]]
    assert split.counts["users_with_only_repeats_validation"] == 1
    assert split.counts["untrained_item_targets_test"] == 2


def test_first_keeps_only_the_first_new_item_of_the_window() -> None:
    assert rows(GlobalTemporal(0.2, 0.2, targets="first")(SHOP).test.targets) == [[4], [2]]


def test_users_without_a_past_are_counted_and_kept_only_on_request() -> None:
    # times 0 1 2 3 | 4 | 5 6: user 1 first appears in the test window
    late = Sequences.from_lists([[1, 2, 3, 4, 5, 6], [7]], [[0, 1, 2, 3, 4, 5], [6]])
    without, kept = (GlobalTemporal(0.15, 0.25, include_cold=cold)(late) for cold in (False, True))
    assert without.test.users.tolist() == [0]
    assert kept.test.users.tolist() == [0, 1]
    assert rows(kept.test.inputs)[1] == []
    assert without.counts["cold_users_test"] == kept.counts["cold_users_test"] == 1


def test_events_at_the_moment_of_a_cut_all_fall_on_its_later_side() -> None:
    tied = Sequences.from_lists([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 5, 9], [2, 5, 9], [3, 5, 9]])
    split = GlobalTemporal(0.3, 0.3)(tied)
    assert rows(split.train) == [[1], [4], [7]]
    assert rows(split.validation.targets) == [[2], [5], [8]]
    assert rows(split.test.targets) == [[3], [6], [9]]


def test_a_temporal_split_without_times_says_what_to_use_instead() -> None:
    with pytest.raises(DataError, match="split=leave_last_out"):
        GlobalTemporal()(Sequences.from_lists([[1, 2, 3]]))


def test_a_temporal_split_of_one_single_moment_is_refused() -> None:
    with pytest.raises(DataError, match="share the time"):
        GlobalTemporal()(Sequences.from_lists([[1, 2, 3]], [[7, 7, 7]]))


def test_a_temporal_split_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no events"):
        GlobalTemporal()(Sequences.from_lists([[]], [[]]))


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.0)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="test_share"):
        GlobalTemporal(*shares)


@given(histories())
def test_leave_last_out_never_leaks_and_loses_nothing(sequences: Sequences) -> None:
    split = LeaveLastOut()(sequences)
    check_leaks(split, one_moment=False)
    assert len(split.train) == len(sequences)
    held_out = 2 * np.count_nonzero(sequences.lengths >= 3)
    assert len(split.train.item_rows) + held_out == len(sequences.item_rows)
    repeats = split.counts["repeat_targets_validation"] + split.counts["repeat_targets_test"]
    assert len(split.validation) + len(split.test) + repeats == held_out


@given(histories(), st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.booleans(), st.sampled_from(["all", "first"]))
def test_global_temporal_never_leaks_and_loses_nothing(
    sequences: Sequences, validation_share: float, test_share: float, cold: bool, targets: str
) -> None:
    try:
        split = GlobalTemporal(validation_share, test_share, targets, cold)(sequences)  # type: ignore[arg-type]  # drawn
    except DataError:
        return  # too few distinct moments to separate the windows
    check_leaks(split, one_moment=True)
    assert sequences.times is not None
    assert split.train.times is not None
    cut = split.validation.targets.times
    if cut is not None and len(cut):
        assert len(split.train.item_rows) <= np.count_nonzero(sequences.times < cut.min())
    for cases in (split.validation, split.test):
        assert (cases.targets.lengths >= 1).all()
        assert cold or (cases.inputs.lengths >= 1).all()
        if targets == "first":
            assert (cases.targets.lengths == 1).all()


@given(histories())
def test_global_temporal_targets_are_what_a_plain_loop_finds(sequences: Sequences) -> None:
    try:
        split = GlobalTemporal(0.2, 0.3, include_cold=True)(sequences)
    except DataError:
        return
    assert sequences.times is not None
    ordered = np.sort(sequences.times)
    test_at = ordered[min(int(len(ordered) * (1 - 0.3)), len(ordered) - 1)]
    expected = {}
    for user in range(len(sequences)):
        start, stop = sequences.offsets[user : user + 2]
        pairs = list(zip(sequences.item_rows[start:stop], sequences.times[start:stop], strict=True))
        past = {item for item, time in pairs if time < test_at}
        new = dict.fromkeys(int(item) for item, time in pairs if time >= test_at and item not in past)
        if new:
            expected[user] = list(new)
    assert dict(zip(split.test.users.tolist(), rows(split.test.targets), strict=True)) == expected


def _with_test_target(split: Split, target: int) -> Split:
    leaky = Sequences(np.full_like(split.test.targets.item_rows, target), split.test.targets.offsets)
    cases = type(split.test)(split.test.users, split.test.inputs, leaky)
    return Split(split.train, split.validation, cases, split.protocol)


def test_the_leak_check_finds_a_target_that_is_in_its_input() -> None:
    split = LeaveLastOut()(Sequences.from_lists([[1, 2, 3, 4]]))
    with pytest.raises(DataError, match="already in the input"):
        check_leaks(_with_test_target(split, 2), one_moment=False)


def test_the_leak_check_finds_training_on_the_future() -> None:
    split = GlobalTemporal(0.2, 0.2)(SHOP)
    everything = Split(SHOP, split.validation, split.test, split.protocol)
    with pytest.raises(DataError, match="more train events than input"):
        check_leaks(everything, one_moment=True)


def test_the_leak_check_finds_that_leave_last_out_overlaps_in_time() -> None:
    with pytest.raises(DataError, match="overlap in time"):
        check_leaks(LeaveLastOut()(SHOP), one_moment=True)


def test_a_case_is_asked_about_when_its_first_target_comes() -> None:
    for split in (LeaveLastOut()(SHOP), GlobalTemporal(validation_share=0.3, test_share=0.3)(SHOP)):
        for cases in (split.validation, split.test):
            assert cases.targets.times is not None
            assert cases.inputs.asked_at is not None
            assert cases.inputs.asked_at.tolist() == cases.targets.times[cases.targets.offsets[:-1]].tolist()


def test_without_times_nobody_knows_when_a_case_is_asked_about() -> None:
    assert LeaveLastOut()(Sequences.from_lists([[1, 2, 3]])).test.inputs.asked_at is None
