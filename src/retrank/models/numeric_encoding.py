"""Numbers as a net likes to read them: how far a value has come through each bin of what training saw."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError, DataError

_LARGEST = 1e30
"""Numbers beyond it are cut, so that no difference or product of two overflows float32."""


class NumericEncoding(nn.Module):
    """Piecewise-linear encoding of F raw numbers, then a linear map to `width`.

    A value that lies in bin t of its feature fills the bins before it and a part of bin t. Bins end at quantiles of the
    training data, so scale, skew and outliers of a feature do not matter; values outside end in the outermost bin.
    An unknown value (NaN) has a bin of its own; until training has seen one it counts as the average value.

    Args:
        num_features: F, >= 0.
        width: size of the result.
        num_bins: T, bins per feature, >= 1.

    Raises:
        ConfigError: a size is out of range.

    Source: Gorishniy, Rubachev, Babenko 2022 (arXiv 2203.05556). Deviations: the outermost bins are closed, which
    bounds the input; values that are common on their own become edges; bins are centred at their training mean.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    slope: torch.Tensor
    centre: torch.Tensor
    fitted: torch.Tensor

    def __init__(self, num_features: int, width: int, *, num_bins: int = 8) -> None:
        super().__init__()
        if num_features < 0 or num_bins < 1:
            raise ConfigError(f"num_features is {num_features} and num_bins {num_bins}; expected >= 0 and >= 1")
        self.num_features, self.num_bins = num_features, num_bins
        for name in ("lower", "slope", "centre"):
            self.register_buffer(name, torch.zeros(num_bins, num_features))
        self.register_buffer("upper", torch.zeros(num_features))
        self.register_buffer("fitted", torch.tensor(False))
        self.bins = nn.Linear(num_features * num_bins, width)
        self.unknown = nn.Linear(num_features, width, bias=False)
        nn.init.zeros_(self.unknown.weight)

    @torch.no_grad()
    def fit(self, features: NDArray[np.floating] | torch.Tensor) -> None:
        """Take the bins from `[M, F]` training features; NaN = unknown. The weights stay.

        Raises:
            DataError: the shape is wrong, or there is no row.
        """
        table = features.detach().cpu().numpy() if isinstance(features, torch.Tensor) else np.asarray(features)
        if table.ndim != 2 or table.shape[1] != self.num_features or len(table) == 0:
            raise DataError(
                f"training features have shape {table.shape}, expected (M, {self.num_features}) with M >= 1"
            )
        for feature, column in enumerate(table.T.astype(np.float64)):
            self._fit_one(feature, column[np.isfinite(column)].clip(-_LARGEST, _LARGEST))
        self.fitted.fill_(True)

    def _fit_one(self, feature: int, known: NDArray[np.float64]) -> None:
        edges = bin_edges(known, self.num_bins) if len(known) else np.zeros(1)
        used, widths = len(edges) - 1, np.maximum(np.diff(edges), 1 / _LARGEST)
        # A bin that is not used has slope 0 and stays empty; a feature without any bin says only "unknown".
        self.lower[:, feature], self.upper[feature] = edges[0], edges[-1]
        self.slope[:, feature], self.centre[:, feature] = 0.0, 0.0
        if used:
            self.lower[:used, feature] = torch.from_numpy(edges[:-1])
            self.slope[:used, feature] = torch.from_numpy(1 / widths)
            filled = np.clip((known[:, None] - edges[:-1]) / widths, 0, 1)
            self.centre[:used, feature] = torch.from_numpy(filled.mean(0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `[..., F]` float32 to `[..., width]`.

        Raises:
            ValueError: in training, before `fit`.
        """
        if self.training and not self.fitted:
            raise ValueError("the bins of the features are not known; call fit_numerics before training")
        unknown = features.isnan()
        # Clipping before subtracting keeps infinite values out of inf * 0.
        clipped = torch.minimum(torch.maximum(features, self.lower[0]), self.upper)
        clipped = torch.where(unknown, self.lower[0], clipped)  # an unknown value fills no bin ...
        filled = ((clipped[..., None, :] - self.lower) * self.slope).clamp(0.0, 1.0)  # [..., T, F]
        # ... and is worth the average instead. Centring the weights, not the many values, is the same and cheaper.
        average = (torch.unflatten(self.bins.weight, 1, self.centre.shape) * self.centre).sum(1)  # [width, F]
        shares: torch.Tensor = self.bins(filled.flatten(-2))
        return shares + F.linear(unknown.to(features.dtype), self.unknown.weight + average, -average.sum(1))


def bin_edges(known: NDArray[np.float64], num_bins: int) -> NDArray[np.float64]:
    """Return at most `num_bins + 1` strictly increasing edges for `[M]` finite values.

    Values that alone fill a bin (a count's zero, a flag) are edges; the others are cut at their quantiles.
    """
    values, counts = np.unique(known.astype(np.float32), return_counts=True)  # edges must differ in float32
    common = counts * num_bins >= max(1, len(known))
    others = np.repeat(values[~common], counts[~common]).astype(np.float64)
    edges = [values[common].astype(np.float64)]
    if len(others):
        shares = np.linspace(0, 1, num_bins + 1 - int(common.sum()))
        edges.append(np.quantile(others, shares, method="nearest"))
    return np.unique(np.concatenate(edges))
