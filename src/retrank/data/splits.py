"""Ways to cut histories into train, validation and test. Both keep every user of the store in `Split.train`.

`GlobalTemporal` is the headline: one moment divides the past from the future for everybody, as in production.
`LeaveLastOut` (protocol P1) is for comparison with papers: it lets events of one user that are later than the target of
another into the training data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retrank.config import instantiate
from retrank.contract.cases import Cases
from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.data.store import EventStore

MIN_EVENTS = 3


@dataclass(frozen=True)
class Split:
    """Train histories of all U users in store order, and evaluation cases.

    Attributes:
        train: U sequences; users without train events have length 0.
        validation: cases to select a model on.
        test: cases to report, never to select on.
        protocol: name and settings of the split, to be printed beside every metric.
        counts: what was left out or deserves a look, by name.
    """

    train: Sequences
    validation: Cases
    test: Cases
    protocol: str
    counts: Mapping[str, int] = field(default_factory=dict)


def split_store(settings: Mapping[str, Any], store: EventStore) -> Split:
    """Split a store as configured; the protocol says so when items without any event are ranked as well."""
    split: Split = instantiate(settings)(store.sequences)
    without = store.num_items_without_events
    if not without:
        return split
    return replace(split, protocol=f"{split.protocol}, {without} items without events among the candidates")


@dataclass(frozen=True)
class LeaveLastOut:
    """Protocol P1: train on all but the last two events, validate on the second-last, test on the last.

    The test input holds the validation event; there is no retraining. Users with fewer than three events only train.
    A target that the user has met before cannot be found once seen items are removed, so such cases are left out and
    counted (`repeat_targets_*`); `ml-1m.txt` has none.

    Source: the protocol of SASRec (Kang and McAuley 2018, arXiv:1808.09781) with the full catalogue as candidates.
    """

    def __call__(self, sequences: Sequences) -> Split:
        """Split U sequences; times are not needed."""
        starts, stops = sequences.offsets[:-1], sequences.offsets[1:]
        long_enough = sequences.lengths >= MIN_EVENTS
        train = sequences.slices(starts, np.where(long_enough, stops - 2, stops))
        users = np.flatnonzero(long_enough)
        validation, validation_repeats = _last_event_cases(sequences, users, stops[users] - 2)
        test, test_repeats = _last_event_cases(sequences, users, stops[users] - 1)
        counts = {
            "short_users": int(np.count_nonzero(~long_enough)),
            "repeat_targets_validation": validation_repeats,
            "repeat_targets_test": test_repeats,
        }
        return Split(train, validation, test, "leave-last-out (P1)", counts)


@dataclass(frozen=True)
class GlobalTemporal:
    """Train before one moment, validate in the window after it, test in the last window.

    The two moments are quantiles of all event times; every event whose time equals a cut falls on its later side. A
    case is a user with at least one target in the window; its input is everything the user did before the window, its
    targets are the distinct items of the window that the user had not met before, in order of first appearance.

    Attributes:
        validation_share: share of events in the validation window, 0..1 exclusive.
        test_share: share of events in the test window, 0..1 exclusive.
        targets: "all" unseen items of the window, or only the "first".
        include_cold: keep users without any input as cases with an empty history; counted either way.
    """

    validation_share: float = 0.1
    test_share: float = 0.1
    targets: Literal["all", "first"] = "all"
    include_cold: bool = False

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on.

        Raises:
            ConfigError: a share is out of range or `targets` is unknown.
        """
        shares = (self.validation_share, self.test_share)
        if not all(0 < share < 1 for share in shares) or sum(shares) >= 1:
            raise ConfigError(
                f"validation_share and test_share are {shares}; each must be in 0..1 and their sum below 1"
            )
        if self.targets not in ("all", "first"):
            raise ConfigError(f"split.targets is {self.targets!r}; expected 'all' or 'first'")

    def __call__(self, sequences: Sequences) -> Split:
        """Split U sequences that have times.

        Raises:
            DataError: the source has no time, or too many events share one moment for the windows to be separated.
        """
        validation_at, test_at = self.cuts(sequences)
        starts, stops = sequences.offsets[:-1], sequences.offsets[1:]
        validation_starts = starts + _counts_before(sequences, validation_at)
        test_starts = starts + _counts_before(sequences, test_at)
        train = sequences.slices(starts, validation_starts)
        num_items = int(sequences.item_rows.max(initial=0))
        counts: dict[str, int] = {}
        validation = self._cases(sequences, validation_starts, test_starts, num_items, counts, "validation")
        test = self._cases(sequences, test_starts, stops, num_items, counts, "test")
        trained = np.zeros(num_items + 1, dtype=bool)
        trained[train.item_rows] = True
        for name, cases in (("validation", validation), ("test", test)):
            counts[f"untrained_item_targets_{name}"] = int(np.count_nonzero(~trained[cases.targets.item_rows]))
        return Split(train, validation, test, self._protocol(validation_at, test_at), counts)

    def _protocol(self, validation_at: int, test_at: int) -> str:
        cuts = " and ".join(str(np.datetime64(cut, "us").astype("datetime64[s]")) for cut in (validation_at, test_at))
        return f"global temporal, cuts {cuts} UTC, targets {self.targets}{', cold users' if self.include_cold else ''}"

    def cuts(self, sequences: Sequences) -> tuple[int, int]:
        """Return the first microsecond of the validation and of the test window.

        Raises:
            DataError: as for a call.
        """
        times = sequences.times
        if times is None:
            raise DataError("a temporal split needs event times and this store has none; use split=leave_last_out")
        if not len(times):
            raise DataError("there are no events to split; ingest a source with events")
        places = [
            min(int(len(times) * (1 - late)), len(times) - 1)
            for late in (self.validation_share + self.test_share, self.test_share)
        ]
        ordered = np.partition(np.asarray(times), places)
        validation_at, test_at = int(ordered[places[0]]), int(ordered[places[1]])
        if not ordered.min() < validation_at < test_at:
            moment = np.datetime64(validation_at, "us")
            raise DataError(
                f"train, validation and test cannot be separated: too many events share the time {moment}; "
                "change validation_share and test_share, or use split=leave_last_out"
            )
        return validation_at, test_at

    def _cases(
        self,
        sequences: Sequences,
        window_starts: NDArray[np.int64],
        window_stops: NDArray[np.int64],
        num_items: int,
        counts: dict[str, int],
        name: str,
    ) -> Cases:
        starts = sequences.offsets[:-1]
        active = window_stops > window_starts
        cold = active & (window_starts == starts)
        counts[f"cold_users_{name}"] = int(np.count_nonzero(cold))
        users = np.flatnonzero(active if self.include_cold else active & ~cold)
        inputs = sequences.slices(starts[users], window_starts[users])
        window = sequences.slices(window_starts[users], window_stops[users])
        targets = _new_items(inputs, window, num_items, only_first=self.targets == "first")
        kept = np.flatnonzero(targets.lengths > 0)
        counts[f"users_with_only_repeats_{name}"] = len(users) - len(kept)
        return _asked(Cases(users, inputs, targets).take(kept))


def _last_event_cases(
    sequences: Sequences, users: NDArray[np.int64], target_at: NDArray[np.int64]
) -> tuple[Cases, int]:
    inputs = sequences.slices(sequences.offsets[users], target_at)
    targets = sequences.slices(target_at, target_at + 1)
    owners = np.repeat(np.arange(len(users)), inputs.lengths)
    repeated = np.zeros(len(users), dtype=bool)
    repeated[owners[inputs.item_rows == targets.item_rows[owners]]] = True
    cases = _asked(Cases(users, inputs, targets))
    return (cases.take(np.flatnonzero(~repeated)) if repeated.any() else cases), int(np.count_nonzero(repeated))


def _asked(cases: Cases) -> Cases:
    """Let each case be asked at the moment of its first target, which is when a request would have come."""
    first, targets = cases.targets.offsets[:-1], cases.targets
    asked_at = None if targets.times is None else targets.times[first]
    asked_in = None if targets.contexts is None else targets.contexts[first]
    return replace(cases, inputs=replace(cases.inputs, asked_at=asked_at, asked_in=asked_in))


def _counts_before(sequences: Sequences, moment: int) -> NDArray[np.int64]:
    assert sequences.times is not None
    before = np.concatenate([[0], np.cumsum(sequences.times < moment)])
    counts: NDArray[np.int64] = before[sequences.offsets[1:]] - before[sequences.offsets[:-1]]
    return counts


def _new_items(inputs: Sequences, window: Sequences, num_items: int, *, only_first: bool) -> Sequences:
    """Return per case the distinct window items that are not in the input, in order of first appearance."""
    window_owner = np.repeat(np.arange(len(window)), window.lengths)
    window_keys = window_owner * (num_items + 1) + window.item_rows
    input_keys = np.repeat(np.arange(len(inputs)), inputs.lengths) * (num_items + 1) + inputs.item_rows
    distinct, first_at = np.unique(window_keys, return_index=True)
    kept = np.sort(first_at[~np.isin(distinct, input_keys)])
    if only_first:
        kept = kept[np.unique(window_owner[kept], return_index=True)[1]]
    lengths = np.bincount(window_owner[kept], minlength=len(window))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = None if window.times is None else window.times[kept]
    contexts = None if window.contexts is None else window.contexts[kept]
    return Sequences(window.item_rows[kept], offsets, times, contexts=contexts)
