"""HSTU: what it makes of time."""

import math

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.models.hstu import HSTU, time_buckets

HOUR, DAY = 3_600, 86_400


def small(**changes: object) -> HSTU:
    torch.manual_seed(0)
    settings = {"max_length": 6, "width": 8, "num_blocks": 2, "num_heads": 2} | changes
    return HSTU(10, **settings).eval()  # type: ignore[arg-type]  # settings of several types in one dict


def test_a_gap_runs_from_the_event_to_the_moment_asked_about() -> None:
    """Three events 10, 4 and 1 hours before the request: the first reader is asked when the second event happens."""
    buckets = time_buckets(torch.tensor([[10 * HOUR, 4 * HOUR, HOUR]]))[0]
    gaps = [[6, 0, 0], [9, 3, 0], [10, 4, 1]]  # hours; what lies in the future of a reader counts as a second
    expected = [[int(math.log(max(1, gap * HOUR)) / 0.301) for gap in row] for row in gaps]
    assert buckets.tolist() == expected


def test_buckets_end_somewhere() -> None:
    assert time_buckets(torch.tensor([[2**62]])).item() == 127
    assert time_buckets(torch.tensor([[0]])).item() == 0


def test_the_same_events_mean_something_else_later() -> None:
    """Once the time table is not zero any more, the query depends on when it is asked for."""
    model, items = small(), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        for block in model.blocks:
            block.by_gap.normal_()  # type: ignore[operator]  # ModuleList forgets the class
    ages = torch.tensor([[3 * DAY, 2 * DAY, DAY]])
    assert not torch.allclose(model(items, ages), model(items, ages + 365 * DAY), atol=1e-4)
    torch.testing.assert_close(model(items, ages), model(items, ages))


def test_queries_inside_a_history_do_not_depend_on_the_request() -> None:
    """A position is asked about when its next event happens; only the newest one waits for the request."""
    model, items = small(), torch.tensor([[1, 2, 3]])
    ages = torch.tensor([[3 * DAY, 2 * DAY, DAY]])
    early, late = model.encode_all(items, ages), model.encode_all(items, ages + 30 * DAY)
    torch.testing.assert_close(early[:, :-1], late[:, :-1])


def test_without_times_only_item_rows_are_read() -> None:
    assert small(time_bias=False).inputs == ("item_rows",)
    assert small().inputs == ("item_rows", "ages")


def test_many_blocks_still_tell_histories_apart() -> None:
    """Depth must not collapse queries into one direction."""
    model = small(num_blocks=16, time_bias=False)
    queries = model(torch.arange(1, 9).reshape(4, 2))
    similarity = queries @ queries.T
    assert similarity.fill_diagonal_(0.0).abs().max().item() < 0.95


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"width": 6}, "width 6"), ({"dropout": 1.0}, "dropout is 1.0"), ({"similarity": "l2"}, "similarity is 'l2'")],
)
def test_sizes_that_cannot_work_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        small(**changes)
