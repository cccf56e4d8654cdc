"""Item vectors from co-occurrence alone: a start for the item table of a model that has few events to learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences


@dataclass(frozen=True)
class ItemFactors:
    """Truncated singular value decomposition of "who bought what".

    Cell (user, item) is 1 if the user ever had the item, divided by the square root of the number of the user's items
    and by the item's number of users to the power `popularity_power`; an item vector is its right singular vector times
    the square root of the singular values.

    Attributes:
        popularity_power: 0..1; 0 lets popular items dominate, 0.5 treats users and items alike.
    """

    popularity_power: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a power outside 0..1.

        Raises:
            ConfigError: it is.
        """
        if not 0 <= self.popularity_power <= 1:
            raise ConfigError(f"popularity_power is {self.popularity_power}; it must be in 0..1")

    def __call__(self, histories: Sequences, num_items: int, width: int) -> NDArray[np.float32]:
        """Return `[N + 1, D]` float32 vectors; row 0 and rows of items without events are zero.

        Raises:
            ConfigError: `width` is not below the number of users and items.
        """
        if width >= min(len(histories), num_items + 1):
            raise ConfigError(
                f"warm_start: width {width} must be below {len(histories)} users and {num_items + 1} item rows; "
                "use a smaller model.width or warm_start=null"
            )
        owners = np.repeat(np.arange(len(histories)), histories.lengths)
        shape = (len(histories), num_items + 1)
        cells = sparse.csr_matrix((np.ones(len(owners)), (owners, histories.item_rows)), shape=shape)
        cells.data[:] = 1.0
        user_sizes, item_sizes = (np.maximum(np.asarray(cells.sum(axis)).ravel(), 1) for axis in (1, 0))
        scaled = sparse.diags(user_sizes**-0.5) @ cells @ sparse.diags(item_sizes**-self.popularity_power)
        _, values, vectors = svds(scaled, k=width, rng=np.random.default_rng(0))
        signs = np.sign(vectors[np.arange(width), np.abs(vectors).argmax(axis=1)])  # the sign is arbitrary: fix it
        factors: NDArray[np.float32] = (vectors * (signs * np.sqrt(values))[:, None]).T.astype(np.float32)
        factors[0] = 0.0
        return factors
