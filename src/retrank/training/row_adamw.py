"""AdamW for models with a large item table: rows that a step does not touch cost nothing and do not move."""

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch.optim.optimizer import ParamsT
from typing_extensions import override

RowMoments = Literal["full", "one"]


class RowAdamW(torch.optim.AdamW):
    """AdamW that reads and writes only the rows a sparse gradient names; dense gradients get `torch.optim.AdamW`.

    If every row is touched in every step, both are the same bit by bit. A row that is not touched keeps its weights and
    its moments, and does not decay: it takes part in the steps that touch it and in no others. The bias of
    moments is corrected by the number of steps, not of touches.

    Args:
        params: parameters or groups of them.
        lr: learning rate, > 0.
        betas: decay of the first and second moment.
        row_moments: what is remembered of a table with sparse gradients. "full": both moments of every weight, twice
            the memory of the table. "one": a second moment per row, eight bytes, for tables that fill the memory.

    Source: the lazy updates of `torch.optim.SparseAdam` and TensorFlow's LazyAdam, with the decoupled decay of
    Loshchilov, Hutter 2017 (arXiv 1711.05101). "one": the row-wise state of FBGEMM's table-batched embeddings (Mudigere
    et al. 2021, arXiv 2104.05158), the mean of the squared gradient over a row. Deviation: a moving average over the
    touches of the row, at first a plain mean, instead of the sum of Adagrad, so that the learning rate of Adam suits
    it. It has no first moment.
    """

    def __init__(
        self, params: ParamsT, *, lr: float, betas: tuple[float, float], row_moments: RowMoments = "full"
    ) -> None:
        super().__init__(params, lr=lr, betas=betas)
        self.row_moments = row_moments

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all weights that have a gradient; return what `closure`, called first, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        by_rows = [
            (parameter, parameter.grad.coalesce(), group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for parameter, gradient, group in by_rows:
            self._move_rows(parameter, gradient._indices()[0], gradient._values(), group)
            parameter.grad = None  # AdamW refuses sparse gradients
        super().step()
        for parameter, gradient, _ in by_rows:
            parameter.grad = gradient
        return loss

    def _move_rows(
        self, table: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        """Move the distinct `[M]` rows of a `[N, D]` table along their `[M, D]` gradient."""
        state, (beta1, beta2), rate = self.state[table], group["betas"], float(group["lr"])
        if not state:
            state.update(self._fresh_state(table))
        state["step"] += 1
        step = state["step"].item()
        if self.row_moments == "full":
            mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - beta1)
            state["exp_avg"].index_copy_(0, rows, mean)
            squares = state["exp_avg_sq"].index_select(0, rows).mul_(beta2)
            squares.addcmul_(gradient, gradient, value=1 - beta2)
            state["exp_avg_sq"].index_copy_(0, rows, squares)
            deviation = squares.sqrt_().div_(math.sqrt(1 - beta2**step))
            rate /= 1 - beta1**step
        else:
            mean = gradient
            touches = state["row_touches"].index_add_(0, rows, torch.ones_like(gradient[:, 0])).index_select(0, rows)
            weight = touches.reciprocal_().clamp_(min=1 - beta2)
            squares = torch.lerp(state["row_sq"].index_select(0, rows), gradient.square().mean(1), weight)
            state["row_sq"].index_copy_(0, rows, squares)
            deviation = squares.sqrt_()[:, None]
        weights = table.index_select(0, rows).mul_(1 - group["lr"] * group["weight_decay"])
        table.index_copy_(0, rows, weights.addcdiv_(mean, deviation.add_(group["eps"]), value=-rate))

    def _fresh_state(self, table: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return empty moments; those of "full" have the names and shapes of AdamW, which may then go on from them."""
        step = torch.zeros((), dtype=torch.float32)
        if self.row_moments == "one":
            return {"step": step, "row_sq": table.new_zeros(len(table)), "row_touches": table.new_zeros(len(table))}
        return {"step": step, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
