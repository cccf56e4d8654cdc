"""The moving average of a table of which a step touches few rows: exact, at the cost of these rows."""

import math

import torch


class Decays:
    """Share of the old average that each step keeps: `min(decay, (1 + step) / (10 + step))` at step 1, 2, ...

    Args:
        decay: upper limit, 0 <= decay < 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._limit_from = max(0, math.floor((10 * decay - 1) / (1 - decay)))  # later steps all keep `decay`

    def at(self, step: int) -> float:
        """Return the share that one step keeps."""
        return min(self.decay, (1 + step) / (10 + step))

    def over(self, first: torch.Tensor, last: int) -> torch.Tensor:
        """Return the float32 product of the shares of steps `first + 1 .. last` for int tensors `first <= last`."""
        return (self._log_until(torch.tensor(last)) - self._log_until(first)).exp().float()

    def _log_until(self, step: torch.Tensor) -> torch.Tensor:
        """Sum of the logarithms of steps 1..step up to a constant, float64; the early part is a ratio of factorials."""
        early = step.clamp(max=self._limit_from).double()
        late = (step - self._limit_from).clamp(min=0).double()
        return torch.lgamma(early + 2) - torch.lgamma(early + 11) + late * math.log(max(self.decay, 1e-300))


class RowClock:
    """Which step each row of an average is as of, so that it can catch up; four bytes a row.

    While a row's weights stay as they are, its average moves towards them by a known factor at each step. So it is
    enough to catch up when the weights are about to change, and when the average is read.

    Args:
        num_rows: N.
        step: number of steps done, which all rows are as of.
        decays: share kept at each step.
        device: where the average is.
    """

    def __init__(self, num_rows: int, step: int, decays: Decays, device: torch.device) -> None:
        self.decays = decays
        self.as_of = torch.full((num_rows,), step, dtype=torch.int32, device=device)

    @torch.no_grad()
    def catch_up(
        self, average: torch.Tensor, weights: torch.Tensor, step: int, rows: torch.Tensor | None = None
    ) -> None:
        """Bring rows of an average up to date in place.

        Args:
            average: `[N, D]`.
            weights: `[N, D]`, the weights these rows have had since they last changed.
            step: number of steps done.
            rows: `[M]` int64, distinct; None for all, which takes memory for one number a row, not for another table.
        """
        if rows is None:
            average.lerp_(weights, (1 - self.decays.over(self.as_of, step))[:, None])
            self.as_of.fill_(step)
            return
        share = (1 - self.decays.over(self.as_of.index_select(0, rows), step))[:, None]
        average.index_copy_(0, rows, average.index_select(0, rows).lerp_(weights.index_select(0, rows), share))
        self.as_of.index_fill_(0, rows, step)
