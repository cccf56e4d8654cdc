"""Planted laws, through the tables and the loop of `retrank rank`: what the hour decides, and what a place does."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import rankdata
from visit_worlds import DAY, HOUR, NUM_ITEMS, SPEC, all_without, prepared, trained, world

from retrank.contract.candidate_features import MOMENT_FEATURES
from retrank.training.ranking.evaluate import context_worth, shuffled_moments
from retrank.training.ranking.prepared import Prepared
from retrank.training.ranking.reranker import outputs_of
from retrank.training.ranking.shown import NOT_SHOWN, Shown

DAYS = (3, 9, 12)
PRICES = np.concatenate([[np.nan], np.repeat([1.0, 9.0], NUM_ITEMS // 2)]).astype(np.float32)
NOTHING = np.full(NUM_ITEMS + 1, np.nan, dtype=np.float32)


@pytest.fixture(scope="module")
def hours() -> Prepared:
    """In the morning something cheap is bought, in the evening something dear; who comes when is chance."""
    random = np.random.default_rng(0)
    evening = random.integers(0, 2, (60, DAYS[2]))
    cheap, dear = np.flatnonzero(PRICES == 1), np.flatnonzero(PRICES == 9)

    def clicks(user: int, day: int) -> list[int]:
        return [int(row) for row in random.choice(dear if evening[user, day] else cheap, 2, replace=False)]

    events = world(60, DAYS, clicks, lambda user, day: (19 if evening[user, day] else 8) * HOUR)
    return prepared(events, DAYS, {"price": PRICES, "margin": NOTHING})


def test_what_the_hour_decides_is_a_lift_clear_of_zero_that_vanishes_with_the_moments_shuffled(
    hours: Prepared, tmp_path: Path
) -> None:
    ranker = trained(hours, tmp_path / "with", "trainer.max_epochs=4")
    worth = context_worth(ranker, hours, SPEC, NUM_ITEMS)
    assert worth.lift.low > 0.05
    assert worth.lift.difference == pytest.approx(worth.real - worth.shuffled)
    blind = all_without(hours, [*MOMENT_FEATURES])
    ignorant = trained(blind, tmp_path / "without", "trainer.max_epochs=4")
    base = context_worth(ignorant, blind, SPEC, NUM_ITEMS)
    assert worth.real > base.real + 0.05
    assert worth.shuffled < base.real + 0.01
    assert (base.lift.low, base.lift.high) == (0, 0)  # what does not read the moment has nothing to lose


def test_shuffled_moments_are_those_of_other_requests_and_nothing_else_changes(hours: Prepared) -> None:
    table, columns = hours.test, [SPEC.features.index(name) for name in MOMENT_FEATURES]
    shuffled = shuffled_moments(table, SPEC, np.random.default_rng(1))
    others = [at for at in range(len(SPEC.features)) if at not in columns]
    np.testing.assert_array_equal(shuffled.features[:, others], table.features[:, others])
    starts = table.offsets[:-1]
    before, after = table.features[starts][:, columns], shuffled.features[starts][:, columns]
    np.testing.assert_array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
    assert (before != after).any()


WORTH = np.linspace(-2, 2, NUM_ITEMS)


class Slates(NamedTuple):
    """One world: every place is known, those of every other user, none."""

    placed: Prepared
    half: Prepared
    plain: Prepared


@pytest.fixture(scope="module")
def slates() -> Slates:
    """Ten items are shown by their margin; a click wants worth and an early place."""
    random = np.random.default_rng(3)
    worth, margin = (np.concatenate([[np.nan], random.permutation(WORTH)]).astype(np.float32) for _ in range(2))
    rows, times, places, offsets = list[int](), list[int](), list[int](), [0]
    clicked = dict[tuple[int, int], list[int]]()
    for user in range(200):
        for day in range(DAYS[0], DAYS[2]):
            drawn = random.choice(np.arange(1, NUM_ITEMS + 1), 10, replace=False)
            slate = drawn[np.argsort(-margin[drawn] + random.normal(0, 1, 10))]
            chance = 1 / (1 + np.exp(-(1.5 * worth[slate] - 0.6 * np.arange(10))))
            clicked[user, day] = [int(row) for row in slate[random.random(10) < chance]]
            rows += slate.tolist()
            times += [day * DAY + 9 * HOUR] * 10
            places += range(1, 11)
        offsets.append(len(rows))
    shown = Shown(np.array(offsets), np.array(rows, np.int32), np.array(times), np.array(places), "planted")
    logged = np.repeat(np.arange(200) % 2 == 0, np.diff(shown.offsets))
    half = Shown(
        np.concatenate([[0], np.cumsum(logged)])[shown.offsets],
        shown.item_rows[logged],
        shown.times[logged],
        shown.places[logged],
        data_hash="planted",
    )
    events = world(200, DAYS, lambda user, day: clicked[user, day], lambda _, __: 9 * HOUR + HOUR // 60)
    numbers = {"price": worth, "margin": margin}
    return Slates(*(prepared(events, DAYS, numbers, known) for known in (shown, half, None)))


def _credit(found: Prepared, run_dir: Path, *overrides: str) -> tuple[float, float]:
    """Return the credit to an item's margin per credit to its worth, and how well items are ordered by worth."""
    ranker = trained(found, run_dir, "trainer.max_epochs=6", *overrides)
    outputs = outputs_of(ranker, found.test)[:, 0]
    mean = np.bincount(found.test.rows, outputs, NUM_ITEMS + 1)[1:] / np.bincount(found.test.rows)[1:]
    known = np.column_stack([found.later.facts.table[1:, 4:6], np.ones(NUM_ITEMS)])
    of_worth, of_margin, _ = np.linalg.lstsq(known, mean, rcond=None)[0]
    order = np.corrcoef(rankdata(mean), rankdata(known[:, 0]))[0, 1]
    return float(of_margin / of_worth), float(order)


@pytest.mark.parametrize("overrides", [(), pytest.param(("ranker.loss.listwise=0",), marks=pytest.mark.slow)])
def test_with_places_the_order_is_that_of_worth_and_without_them_the_shelf_is_credited_as_well(
    slates: Slates, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    shelf, order = _credit(slates.placed, tmp_path / "placed", *overrides)
    plain_shelf, plain_order = _credit(slates.plain, tmp_path / "plain", *overrides)
    assert (shelf < 0.3, order > 0.95) == (True, True), (shelf, order)
    assert (plain_shelf > 0.55, plain_order < 0.9) == (True, True), (plain_shelf, plain_order)


def test_places_are_known_of_what_is_learned_from_and_nowhere_else(slates: Slates) -> None:
    placed = slates.placed
    assert placed.fit.places is not None
    shown = placed.fit.places < NOT_SHOWN
    assert 0.1 < shown.mean() < 0.21  # ten of fifty, less what was met before
    assert placed.fit.labels[~shown].sum() == 0
    assert all(table.places is None for table in (placed.validation, placed.visits, placed.test))
    batch = placed.fit.batch(np.arange(3), max_candidates=12, random=np.random.default_rng(0))
    kept = (batch.positions > 0) & (batch.positions < NOT_SHOWN)
    assert kept.sum() == shown[: placed.fit.offsets[3]].sum()  # what was shown is never left out by chance


def test_visits_that_nobody_logged_are_judged_and_not_learned_from(slates: Slates) -> None:
    full, half = slates.placed, slates.half
    assert full.coverage is not None
    assert half.coverage is not None
    assert (full.coverage.share, full.coverage.visits) == (1, len(full.fit))
    assert (half.coverage.visits, half.coverage.covered) == (len(full.fit), len(half.fit))
    assert 0.4 < half.coverage.share < 0.6
    assert half.fit.places is not None
    owners = np.repeat(np.arange(len(half.fit)), np.diff(half.fit.offsets))
    assert np.bincount(owners, half.fit.places < NOT_SHOWN).min() > 0
    assert len(half.calibration) == len(full.calibration)
    assert len(half.test) == len(full.test)


@pytest.mark.slow
def test_half_of_the_users_not_logged_undo_nothing(slates: Slates, tmp_path: Path) -> None:
    shelf, order = _credit(slates.half, tmp_path / "half")
    assert (shelf < 0.45, order > 0.9) == (True, True), (shelf, order)
