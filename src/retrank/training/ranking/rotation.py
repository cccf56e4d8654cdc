"""Bring the item vectors of a newer retriever into the frame of an older one."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes


def rotation_between(
    new: NDArray[np.float32], old: NDArray[np.float32], weights: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return the rotation `[D, D]` float32 with `new @ rotation` as close to `old` as any.

    Two trainings of one recipe find similar distances between items in frames of their own. Inner products, and with
    them every score of the retriever, do not change under a rotation; a ranker that has learned from the old vectors
    can then read the new ones. Source: Schönemann 1966 (orthogonal Procrustes problem).

    Args:
        new: `[N + 1, D]` float32.
        old: `[N + 1, D]` float32.
        weights: `[N + 1]` how much an item counts, >= 0, such as its number of events.
    """
    scale = np.sqrt(weights)[:, None]
    rotation, _ = orthogonal_procrustes((new * scale).astype(np.float64), (old * scale).astype(np.float64))
    turned: NDArray[np.float32] = rotation.astype(np.float32)
    return turned
