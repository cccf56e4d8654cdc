"""Everything a ranker is trained, selected, calibrated and reported on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.training.ranking.sources import Sources
from retrank.training.ranking.table import RankingTable


@dataclass(frozen=True)
class Prepared:
    """Candidates of every window; all but `fit` come from the run that will be served.

    Attributes:
        fit: visits between the past run and the validation window, proposed for by the past run.
        calibration: visits of the validation window.
        visits: visits of the test window, for calibration error.
        validation: the run's validation cases, on which the ranker is selected.
        test: its test cases.
        validation_cases, test_cases: the cases themselves.
        later: the sources of the run.
        rotation: `[D, D]` float32 from the vectors of the run to those of the past run.
    """

    fit: RankingTable
    calibration: RankingTable
    visits: RankingTable
    validation: RankingTable
    test: RankingTable
    validation_cases: Cases
    test_cases: Cases
    later: Sources
    rotation: NDArray[np.float32]
