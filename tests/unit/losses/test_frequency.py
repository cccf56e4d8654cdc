"""How often a step contains an item, learned from the gaps between sightings."""

import math

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.losses.frequency import GapFrequency


def watch(frequency: GapFrequency, steps: list[list[int]], num_items: int = 5) -> GapFrequency:
    frequency.grow(num_items)
    for rows in steps:
        frequency.observe(torch.tensor(rows, dtype=torch.int64))
    return frequency


def probability(frequency: GapFrequency, *rows: int) -> list[float]:
    return frequency.log_probability(torch.tensor(rows)).exp().tolist()


def test_first_gaps_are_averaged() -> None:
    frequency = watch(GapFrequency(rate=0.01), [[1], [1, 2], [1], [1], [1, 2], [1, 2, 3]])
    # item 1 in every step; item 2 after 2, 3 and 1 steps; item 3 after 6; items 4 and 5 never: as if in the next step
    assert probability(frequency, 1, 2, 3, 4, 5) == pytest.approx([1, 1 / 2, 1 / 6, 1 / 7, 1 / 7])


def test_later_gaps_follow_a_moving_average() -> None:
    frequency = watch(GapFrequency(rate=0.5), [[1], [], [1], [], [], [], [1]])
    gap = (1 - 0.5) * ((1 + 2) / 2) + 0.5 * 4  # gaps 1, 2, 4; the second weighs 1/2 either way
    assert probability(frequency, 1) == pytest.approx([1 / gap])


def test_the_estimate_follows_a_change() -> None:
    frequency = watch(GapFrequency(rate=0.1), [[1]] * 200)
    watch(frequency, [[1] if step % 4 == 0 else [] for step in range(1, 401)])
    assert probability(frequency, 1) == pytest.approx([0.25], rel=0.01)


def test_planted_frequencies_are_found() -> None:
    planted, rate, num_steps = torch.tensor([0.9, 0.5, 0.1, 0.02]), 0.02, 4000
    random = torch.Generator().manual_seed(0)
    frequency = GapFrequency(rate)
    frequency.grow(4)
    for _ in range(num_steps):
        seen = torch.rand(4, generator=random) < planted
        frequency.observe(seen.nonzero()[:, 0] + 1)
    error = frequency.log_probability(torch.arange(1, 5)) - planted.log()
    deviation = ((1 - planted) * torch.maximum(torch.tensor(rate / 2), 1 / (planted * num_steps))).sqrt()
    assert (error.abs() < 4 * deviation).all()


def test_weighing_by_the_mean_gap_counts_an_item_once_on_average() -> None:
    planted, num_worlds, num_steps = 0.05, 4000, 200
    frequency, random = GapFrequency(rate=1e-9), torch.Generator().manual_seed(0)
    frequency.grow(num_worlds)  # each row is a world of its own
    for _ in range(num_steps):
        seen = (torch.rand(num_worlds, generator=random) < planted).nonzero()[:, 0] + 1
        frequency.observe(seen)
    weights = torch.exp(-frequency.log_probability(seen))
    expected = 1 - (1 - planted) ** num_steps
    standard_error = weights.norm().item() / num_worlds  # most worlds count zero
    assert abs(weights.sum().item() / num_worlds - expected) < 4 * standard_error


def test_only_the_rows_of_a_step_change() -> None:
    frequency = watch(GapFrequency(), [[1, 2, 3], [2], [1, 3]])
    before = [buffer.clone() for buffer in (frequency.gap, frequency.sightings, frequency.last_step)]
    watch(frequency, [[2]])
    for old, new in zip(before, (frequency.gap, frequency.sightings, frequency.last_step), strict=True):
        assert torch.equal(old[[0, 1, 3, 4, 5]], new[[0, 1, 3, 4, 5]])
        assert old[2] != new[2]


def test_a_growing_catalogue_keeps_what_is_known() -> None:
    frequency = watch(GapFrequency(), [[1], [1, 2]])
    frequency.grow(1000)
    assert probability(frequency, 1, 2, 1000) == pytest.approx([1, 1 / 2, 1 / 3])
    assert len(frequency.gap) == 1001


def test_the_state_takes_twelve_bytes_per_item() -> None:
    state = watch(GapFrequency(), [[1]], num_items=999).state_dict()
    assert sum(values.nbytes for values in state.values()) == 12 * 1000 + 8


def test_saved_and_loaded_estimates_continue_equally() -> None:
    random = torch.Generator().manual_seed(0)
    steps = [sorted(set(torch.randint(1, 6, (3,), generator=random).tolist())) for _ in range(40)]
    whole, resumed = watch(GapFrequency(0.1), steps), GapFrequency(0.1)
    resumed.load_state_dict(watch(GapFrequency(0.1), steps[:20]).state_dict())
    for name, values in watch(resumed, steps[20:]).state_dict().items():
        assert torch.equal(values, whole.state_dict()[name])


def test_nothing_seen_means_no_correction() -> None:
    frequency = GapFrequency()
    frequency.grow(3)
    assert probability(frequency, 1, 2, 3) == [1, 1, 1]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=f"frequency_rate is {rate}"):
        GapFrequency(rate)
