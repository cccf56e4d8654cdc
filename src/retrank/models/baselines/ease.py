"""EASE: a linear item-to-item model with a closed form."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.interactions import strongest_per_row, user_item_matrix


class EASE:
    """Regress every item on all others with an L2 penalty and a zero diagonal.

    With the user-item matrix X and P = (X'X + regularisation I)^-1 the weights are B = I - P diag(1 / diag P).

    Args:
        regularisation: lambda of the paper, > 0.
        max_items: largest catalogue accepted; memory is about 12 N^2 bytes and time grows with N^3.

    Attributes:
        weights: `[N, N]` float32 after `fit`, item rows minus 1 on both sides.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data", 2019. Solved in float32.
    """

    weights: NDArray[np.float32]
    without_users: NDArray[np.intp]

    def __init__(self, regularisation: float = 200.0, max_items: int = 20_000) -> None:
        if regularisation <= 0:
            raise ConfigError(f"EASE regularisation is {regularisation}; expected a number above 0")
        self.regularisation, self.max_items = regularisation, max_items

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Solve for the weights from U histories.

        Raises:
            ConfigError: the catalogue is larger than `max_items`.
        """
        if num_items > self.max_items:
            gigabytes = 12 * num_items**2 / 1e9
            raise ConfigError(
                f"EASE over {num_items} items needs about {gigabytes:.0f} GB and max_items is {self.max_items}; "
                "raise max_items if the machine is large enough, or leave EASE out"
            )
        users_items = user_item_matrix(histories, num_items)[:, 1:]
        gram = (users_items.T @ users_items).toarray()
        self.without_users = np.flatnonzero(gram.diagonal() == 0)
        gram[np.diag_indices(num_items)] += np.float32(self.regularisation)
        factor, failed = linalg.lapack.spotrf(gram.T, lower=True, overwrite_a=True)  # .T: the order LAPACK works in
        if failed:
            raise DataError(
                f"EASE: the Gram matrix is not positive definite in float32 at regularisation {self.regularisation}; "
                "raise regularisation"
            )
        inverse, _ = linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        self.weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self.weights, 0)

    def neighbours(self, top_k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return what speaks most for what, for the bundle: the largest positive weights out of each item.

        Args:
            top_k: items kept per item, >= 1.

        Returns:
            `[N + 1, K]` int32 item rows and `[N + 1, K]` float32 weights, K = min(top_k, N), largest first; 0 and 0.0
            where an item has fewer.
        """
        padded = np.pad(self.weights, ((1, 0), (1, 0)))
        return strongest_per_row(padded, top_k)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; column 0 is 0, items that no user had are -inf."""
        num_items = len(self.weights)
        scores = np.zeros((len(histories), num_items + 1), dtype=np.float32)
        scores[:, 1:] = user_item_matrix(histories, num_items)[:, 1:] @ self.weights
        scores[:, 1 + self.without_users] = -np.inf
        return scores
