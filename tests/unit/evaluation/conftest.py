"""A small world with a good and a poor scorer, for the tests of reports and comparisons."""

import numpy as np
import pytest

from retrank.contract.sequences import Sequences
from retrank.data.splits import LeaveLastOut, Split
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.training.evaluator import Evaluation, evaluate

NUM_ITEMS = 40


@pytest.fixture(scope="session")
def circle() -> Split:
    """Eighty users who walk a circle of forty items with some noise."""
    generator = np.random.default_rng(0)
    lists = [
        [(user + step + int(generator.integers(3))) % NUM_ITEMS + 1 for step in range(0, 30, 3)] for user in range(80)
    ]
    return LeaveLastOut()(Sequences.from_lists(lists))


@pytest.fixture(scope="session")
def good(circle: Split) -> Evaluation:
    """The Markov chain, which sees the circle."""
    scorer = Markov()
    scorer.fit(circle.train, NUM_ITEMS)
    return evaluate(scorer, circle.test, circle.train)


@pytest.fixture(scope="session")
def poor(circle: Split) -> Evaluation:
    """Popularity, which sees nothing."""
    scorer = Popularity()
    scorer.fit(circle.train, NUM_ITEMS)
    return evaluate(scorer, circle.test, circle.train)
