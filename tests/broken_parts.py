"""Parts of a bundle that fail whatever they are given."""

import numpy as np
from numpy.typing import NDArray

from retrank.serving.runtime import QueryEncoder


class BrokenEncoder(QueryEncoder):
    """Stands where the model should be and fails whatever it is given."""

    def __init__(self) -> None:
        pass

    def encode(
        self,
        history: NDArray[np.integer],
        ages: NDArray[np.int64],
        actions: NDArray[np.int64],
        context: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        told = f"{len(history)} events of {len(ages)} ages and {len(actions)} actions in {len(context)} fields"
        raise OSError(f"device gone, {told} not encoded")
