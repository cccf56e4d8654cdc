"""A small world with two scorers, for the tests of reports and comparisons."""

import numpy as np

from retrank.contract.sequences import Sequences
from retrank.data.splits import LeaveLastOut, Split
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.training.evaluator import Evaluation, evaluate

NUM_ITEMS = 40


def split() -> Split:
    """Eighty users who walk a circle of items with some noise."""
    generator = np.random.default_rng(0)
    lists = [
        [(user + step + int(generator.integers(3))) % NUM_ITEMS + 1 for step in range(0, 30, 3)] for user in range(80)
    ]
    return LeaveLastOut()(Sequences.from_lists(lists))


def good() -> Evaluation:
    """Evaluate the Markov chain, which sees the circle."""
    return _evaluation(Markov())


def poor() -> Evaluation:
    """Evaluate popularity, which sees nothing."""
    return _evaluation(Popularity())


def _evaluation(scorer: Markov | Popularity) -> Evaluation:
    world = split()
    scorer.fit(world.train, NUM_ITEMS)
    return evaluate(scorer, world.test, world.train)
