"""Arrays of a bundle, mapped: the replicas of a host share one copy, and opening one reads nothing."""

from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import FormatError

_Number = TypeVar("_Number", np.bool_, np.uint8, np.uint64, np.int16, np.int32, np.int64, np.float32, np.float64)


def mapped(path: Path, dtype: type[_Number], shape: tuple[int | None, ...] = (None,)) -> NDArray[_Number]:
    """Return the array of a `.npy` file whose hash was checked, mapped read-only.

    It is a plain view, which spares every slice the cost of `numpy.memmap`'s bookkeeping.

    Args:
        path: the file; it must not change while the array lives.
        dtype: of the values.
        shape: of the array, None where any size will do.

    Raises:
        FormatError: the file holds another kind of array.
    """
    array: NDArray[_Number] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise FormatError(
            f"{path}: {array.dtype} of shape {array.shape}, expected {np.dtype(dtype)} of shape ({wanted}); "
            "export the bundle again"
        )
    return array
